"""A namespace in the embedded cache, driven the way the gateway drives it, for comparing its columns with its rows."""

import itertools
import random
from pathlib import Path
from typing import Any

from filter_namespace import Namespace

from hevlayer.kernels.doccache import DocCacheEngine, DocRows, DocScan
from hevlayer.kernels.filters import ColumnTable, CompiledFilter

NAME = "ns"
NOW_MS = 1_000
TTL_MS = 86_400_000
DEADLINE_MS = NOW_MS + 60_000
TOKENS = itertools.count(1)
Id = int | str


def open_engine(directory: Path, *, ttl_ms: int = TTL_MS, capacity_bytes: int = 1 << 30) -> DocCacheEngine:
    return DocCacheEngine(
        str(directory),
        identity="https://upstream",
        capacity_bytes=capacity_bytes,
        ttl_ms=ttl_ms,
        unknown_write_ms=100,
        now_ms=NOW_MS,
    )


def made(change: Any) -> Any:
    """What a change that was handed over came to."""
    while hasattr(change, "result"):
        if (found := change.result()) is not None:
            return found
    return change


class Cached:
    """One world's rows in an engine; the origin says in which form they are stored."""

    def __init__(self, engine: DocCacheEngine, origin: Namespace) -> None:
        self.engine = engine
        self.origin = origin
        self.dice = random.Random(origin.world.dice.random())
        self.schema = origin.schema()
        self.attributes = list(origin.world.types)

    def leave(self) -> None:
        """Gives the directory back, as the end of a process does."""
        self.engine.close(NOW_MS)
        del self.engine

    def fill(self, ids: list[Id]) -> None:
        """A page of a warm."""
        ticket = self.engine.begin_fill(NAME, NOW_MS)
        made(self.engine.fill_page(NAME, self.origin.stored(ids), ticket, NOW_MS, in_place=False))

    def mark(self, ids: list[Id]) -> int:
        token = next(TOKENS)
        keys = [self.origin.key(row_id) for row_id in ids]
        made(self.engine.mark(token, NAME, keys, DEADLINE_MS, in_place=True))
        return token

    def settle(self, token: int, outcome: str, rows: DocRows | None = None, deleted: list[Id] | None = None) -> None:
        gone = [self.origin.key(row_id) for row_id in deleted or []]
        made(self.engine.settle(token, NAME, outcome, NOW_MS, rows=rows, deleted=gone, in_place=True))

    def write(self, changed: list[Id], deleted: list[Id], *, token: int | None = None) -> None:
        """A write that the upstream acknowledged."""
        token = self.mark(changed + deleted) if token is None else token
        self.origin.write([self.origin.world.row(row_id) for row_id in changed], deleted)
        self.settle(token, "applied", self.origin.stored(changed) if changed else None, deleted)

    def build(self) -> dict[str, Any]:
        built = self.engine.build_columns(NAME, self.schema, self.attributes, NOW_MS)
        assert built is not None
        return built

    def columns(self, now_ms: int = NOW_MS) -> tuple[ColumnTable, dict[str, Any]] | None:
        return self.engine.columns(NAME, now_ms)

    def scan(self) -> tuple[DocScan, dict[str, Any]]:
        scan, facts = self.engine.scan(NAME, NOW_MS)
        return scan.with_marked(), facts


def told(compiled: CompiledFilter, source: ColumnTable | DocScan, fields: list[str]) -> Any:
    """Count, ids and values, as a source has them; None where a column is missing."""
    counted = compiled.count(source, threads=2)
    if counted is None:
        return None
    ids = compiled.ids(source)
    assert ids is not None
    return counted, ids.page(0, len(ids)), [compiled.values(source, field, groups_max=50) for field in fields]
