"""`python -m service`: serve a bundle over HTTP."""

import sys

from service.run import run
from service.settings import InvalidSettings, read_settings


def main() -> int:
    """Read the settings and serve; 2 when a setting cannot be used."""
    try:
        return run(read_settings())
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
