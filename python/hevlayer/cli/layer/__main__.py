"""`python -m hevlayer.cli.layer`: the same as `layer`."""

from hevlayer.cli.layer import console

if __name__ == "__main__":
    console()
