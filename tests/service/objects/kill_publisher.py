"""Publishes a snapshot into a directory and is killed at the n-th step of it; exits 0 when it came to the end.

`python kill_publisher.py <directory> <n>`; a step is each call that changes the disk.
"""

import asyncio
import os
import sys
from pathlib import Path

from hevlayer.clock import SystemClock
from hevlayer.gateway.snapshots.body import Facet, Histogram, Snapshot
from hevlayer.gateway.snapshots.store import SnapshotStore
from hevlayer.stores.objects import LocalObjects

KILLED = 9
SNAPSHOT = Snapshot.of(
    "films", 1_747_300_000_123, Histogram(7, (Facet("genres", "[]string", (("Drama", 4), ("Horror", 3)), None),), ())
)


def die_at(step: int) -> None:
    """Ends the process before the n-th change of the disk, the first being 0; writes end half done as well."""
    left = [step]

    def counted(function):
        def call(*arguments, **options):
            if left[0] == 0:
                os._exit(KILLED)
            left[0] -= 1
            return function(*arguments, **options)

        return call

    for name in ("fsync", "link"):
        setattr(os, name, counted(getattr(os, name)))
    for name in ("mkdir", "unlink", "replace"):
        setattr(Path, name, counted(getattr(Path, name)))
    opened = Path.open

    def open_counted(path, *arguments, **options):
        file = counted(opened)(path, *arguments, **options)
        if "b" in "".join(arguments) and "x" in "".join(arguments):
            write = file.write

            class Halving:
                def __getattr__(self, name):
                    return getattr(file, name)

                def __enter__(self):
                    return self

                def __exit__(self, *raised):
                    file.close()

                def write(self, body):
                    write(body[: len(body) // 2])
                    file.flush()
                    return counted(write)(body[len(body) // 2 :])

            return Halving()
        return file

    Path.open = open_counted


async def publish(directory: Path) -> None:
    await SnapshotStore(LocalObjects(directory), SystemClock()).publish(SNAPSHOT)


if __name__ == "__main__":
    # One process for every n: what is loaded is loaded once.
    directory, steps = Path(sys.argv[1]), int(sys.argv[2])
    for step in range(steps):
        child = os.fork()
        if child == 0:
            die_at(step)
            asyncio.run(publish(directory / str(step)))
            os._exit(0)
        print(step, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
