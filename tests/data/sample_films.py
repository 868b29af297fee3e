"""Chooses the films of `films-sample.jsonl.gz` from the whole file: as many of each decade, always the same ones.

python tests/data/sample_films.py movies.jsonl.gz
"""

import gzip
import json
import random
import sys
from collections import defaultdict
from pathlib import Path

FILMS = 1_000
SEED = 1927
TARGET = Path(__file__).with_name("films-sample.jsonl.gz")


def main() -> None:
    by_decade: dict[str, list[str]] = defaultdict(list)
    with gzip.open(sys.argv[1], "rt", encoding="utf-8") as lines:
        for line in lines:
            by_decade[json.loads(line)["decade"]].append(line)
    rng = random.Random(SEED)
    chosen: list[str] = []
    decades = sorted(by_decade)
    for number, decade in enumerate(decades):
        quota = (FILMS - len(chosen)) // (len(decades) - number)
        chosen.extend(rng.sample(by_decade[decade], quota))
    # No time stamp in the archive, so that the same films are the same bytes.
    TARGET.write_bytes(gzip.compress("".join(chosen).encode(), compresslevel=9, mtime=0))
    print(f"{len(chosen)} films, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
