"""`python -m hevlayer.cli.layer`: the same as `layer`."""

import sys

from hevlayer.cli.layer import main

if __name__ == "__main__":
    sys.exit(main())
