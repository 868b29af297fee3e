"""Builds the columns of a cached namespace beside another process that does; `test_columns_of_two_processes.py` has it.

`python columns_racer.py <directory> <attributes> <builds>`: a line with the schema comes in, "ready" goes out, any line
comes in to begin; what it came to goes out as JSON.
"""

import json
import sys
from pathlib import Path

from cached_namespace import NAME, NOW_MS, open_engine, told

from hevlayer.kernels.filters import CompiledFilter, FilterSchema

TRIES_MAX = 100_000


def main() -> None:
    engine = open_engine(Path(sys.argv[1]))
    attributes, builds = json.loads(sys.argv[2]), int(sys.argv[3])
    schema = FilterSchema(sys.stdin.readline().encode())
    everything = CompiledFilter(None, schema)
    print("ready", flush=True)
    sys.stdin.readline()
    built = busy = answered = 0
    seen = set()
    for _ in range(TRIES_MAX):
        if built == builds:
            break
        if engine.build_columns(NAME, schema, attributes, NOW_MS) is None:
            busy += 1
        else:
            built += 1
        shown = engine.columns(NAME, NOW_MS)
        if shown is not None:
            answered += 1
            counted, ids, values = told(everything, shown[0], attributes[:2])
            seen.add(json.dumps([counted, ids.decode(), [each.decode() for each in values]]))
    engine.close(NOW_MS)
    print(json.dumps({"built": built, "busy": busy, "answered": answered, "seen": sorted(seen)}), flush=True)


if __name__ == "__main__":
    main()
