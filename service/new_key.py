"""`python -m service.new_key NAME`: a new key for a caller, and the entry that lets it in."""

import argparse
import secrets
import sys

from service.keys import InvalidKeys, entry_of

PREFIX = "vqtok_"
RANDOM_BYTES = 32


def new_key() -> str:
    """A key of 256 random bits. The prefix lets scanners find keys that were published."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def main() -> None:
    """Print a key and its entry."""
    parser = argparse.ArgumentParser(
        prog="python -m service.new_key",
        description="Make a key. The service keeps its entry only: the key is shown this once.",
    )
    parser.add_argument("name", help="whose key it is: letters, digits and ._-")
    name = parser.parse_args().name
    key = new_key()
    try:
        entry = entry_of(name, key)
    except InvalidKeys as error:
        parser.error(str(error))
    sys.stdout.write(
        f"for the caller, as the header 'Authorization: Bearer KEY':\n{key}\n\n"
        "for the file of --api-keys-file, or VQTOK_API_KEYS:\n"
        f"{entry}\n"
    )


if __name__ == "__main__":
    main()
