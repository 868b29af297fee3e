"""A gateway whose directory of columns cannot be written to, in a process that `test_hindered_columns.py` starts.

`python hindered_columns.py <folder> <hindrance>`. Prints what it saw, as JSON.
"""

import asyncio
import ctypes
import json
import os
import resource
import shutil
import sys
from pathlib import Path

from test_cached_scans import SCANS
from work_stage import Stages

from hevlayer.gateway.scan import columns

ROWS = 2_000
# Texts of so many bytes make a column larger than anything else that is written while it is built.
TEXT_BYTES = 2_000
TEXT = ["text", "Gte", "0000001000"]
EXPECTED = ROWS - 1_000
FAILED = 'layer_columns_build_seconds_count{status="failed"} '

_CAPABILITY_VERSION = 0x20080522
_PASSES_PERMISSIONS = (1 << 1) | (1 << 2)


def obey_permissions() -> None:
    """Also as root: this thread, and those that it starts, may no longer write where the mode forbids it."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    data = (ctypes.c_uint32 * 6)()
    for call in (libc.capget, libc.capset):
        if call(header, data) != 0:
            raise OSError(ctypes.get_errno(), "capabilities")
        data[0] &= ~_PASSES_PERMISSIONS


class ReadOnly:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def begin(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.directory.chmod(0o555)

    def end(self) -> None:
        self.directory.chmod(0o755)


class Full(ReadOnly):
    """No file may become so large; the system's answer is an error of the write, as that of a full disk is."""

    def begin(self) -> None:
        index = max(path.stat().st_size for path in self.directory.parent.glob("*.mdb"))
        least = index + (1 << 20)
        assert least < ROWS * TEXT_BYTES, index
        resource.setrlimit(resource.RLIMIT_FSIZE, (least, resource.RLIM_INFINITY))

    def end(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class NoDirectory(ReadOnly):
    """Something else stands in its place."""

    def begin(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.write_bytes(b"")

    def end(self) -> None:
        self.directory.unlink()


HINDRANCES = {"read-only": ReadOnly, "full": Full, "no directory": NoDirectory}


async def run(folder: Path, hindrance: str) -> dict[str, object]:
    columns.UPKEEP_SECONDS = columns.RETRY_SECONDS = 0.05
    stages = Stages(folder)
    stage = await stages()
    seen: list[tuple[int, str]] = []

    async def count() -> None:
        body = {"mode": "count", "source": "cache", "filters": TEXT}
        answer = await stage.ok("POST", SCANS, body)
        seen.append((answer["count"], answer["served_by"]))

    def failures() -> float:
        lines = stage.gateway.metrics.registry.exposition().decode().splitlines()
        return sum(float(line.removeprefix(FAILED)) for line in lines if line.startswith(FAILED))

    try:
        rows = [{"id": number, "text": f"{number:010}".ljust(TEXT_BYTES, "x")} for number in range(ROWS)]
        await stage.write("films", rows)
        await stage.warm()
        hindering = HINDRANCES[hindrance](stage.gateway.data_dir / "cache" / "columns")
        hindering.begin()

        async def failed() -> bool:
            await count()
            return failures() >= 2

        async def from_columns() -> bool:
            await count()
            return stage.answers("columns") > 0

        await stage.until(failed)
        by_columns = stage.answers("columns")
        hindering.end()
        await stage.until(from_columns)
        left = sorted(path.suffix for path in hindering.directory.iterdir())
        return {"counts": sorted(set(seen)), "by_columns_before": by_columns, "left": left}
    finally:
        await stages.close()


if __name__ == "__main__":
    if os.geteuid() == 0:
        obey_permissions()
    print(json.dumps(asyncio.run(run(Path(sys.argv[1]), sys.argv[2]))))
