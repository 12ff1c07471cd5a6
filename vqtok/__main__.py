"""`python -m vqtok` is the command `vqtok`."""

from vqtok.cli import main

if __name__ == "__main__":
    main()
