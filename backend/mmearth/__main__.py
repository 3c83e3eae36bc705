"""Run the command line: ``python -m mmearth``."""

import sys

from mmearth.cli import main

if __name__ == "__main__":
    sys.exit(main())
