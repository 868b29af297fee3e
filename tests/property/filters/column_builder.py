"""Builds the columns of a cached namespace until it is killed; driven by `test_cached_columns.py`."""

import json
import sys
from pathlib import Path

from cached_namespace import NAME, NOW_MS, open_engine

from hevlayer.kernels.filters import FilterSchema


def main() -> None:
    engine = open_engine(Path(sys.argv[1]))
    attributes = json.loads(sys.argv[2])
    schema = FilterSchema(sys.stdin.readline().encode())
    sys.stdout.write("building\n")
    sys.stdout.flush()
    while True:
        engine.build_columns(NAME, schema, attributes, NOW_MS)


if __name__ == "__main__":
    main()
