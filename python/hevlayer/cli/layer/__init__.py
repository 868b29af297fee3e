"""`layer`: the gateway's API from a terminal, and `layer bench`. Needs the extra `cli`."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from hevlayer.cli.layer.exits import USAGE

NEEDED = ("click", "rich", "hdrh", "pygal")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the process's exit status."""
    if any(find_spec(name) is None for name in NEEDED):
        print("layer: needs packages that are not installed; run: pip install 'hevlayer[cli]'", file=sys.stderr)
        return USAGE
    from hevlayer.cli.layer.app import run

    return run(argv)
