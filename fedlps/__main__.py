"""`python -m fedlps`: the command line."""

import sys

from fedlps.cli import main

if __name__ == "__main__":
    sys.exit(main())
