"""Where a scan's results are kept: parts in the object store, and an index of them that is written last.

A part is a JSON array of at most one page of ids, or all values. The index lists the parts in the order of their first
ids, so that a slice reads only the parts that it needs. What is not there any more is as if the job had none.
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

import msgspec
import orjson

from hevlayer.errors import NotFoundError
from hevlayer.gateway.reads import Id
from hevlayer.gateway.scan.bodies import ValueCount, value_text
from hevlayer.stores.objects import ObjectStore
from hevlayer.wire.names import object_key

SCANS = "scans"
IDS_MAX = 100_000_000
_INDEX = "index"


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One object of ids."""

    name: str
    rows: int


class Index(msgspec.Struct, frozen=True):
    """What a finished scan left. `kind` is `ids` or `values`; `type_name` of the ids or of the field."""

    kind: str
    type_name: str
    total: int
    truncated: bool
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class _Written:
    first: Id
    part: Part


class ResultWriter:
    """Writes the results of one job. Not shared between jobs."""

    def __init__(self, store: ObjectStore, job_id: str) -> None:
        self._store = store
        self._job_id = job_id
        self._written: list[_Written] = []
        self._parts = 0
        self.total = 0

    async def add_ids(self, ids: list[Id]) -> None:
        """One page of ids, in ascending order. Raises: ObjectStoreError."""
        if not ids:
            return
        self._parts += 1
        part = Part(f"{self._parts:08}", len(ids))
        self.total += len(ids)
        body = orjson.dumps([each if isinstance(each, str) else str(each) for each in ids])
        await self._store.put(_key(self._job_id, part.name), body)
        self._written.append(_Written(ids[0], part))

    async def finish_ids(self, id_type: str, *, truncated: bool) -> None:
        """Raises: ObjectStoreError."""
        self._written.sort(key=lambda written: written.first)
        parts = [written.part for written in self._written]
        await self._finish(Index("ids", id_type, self.total, truncated, parts))

    async def finish_values(self, values: list[ValueCount], type_name: str, *, truncated: bool) -> None:
        """All values, the most frequent first. Raises: ObjectStoreError."""
        told = sorted(((value_text(each.value), each.count) for each in values), key=lambda each: (-each[1], each[0]))
        self.total = len(told)
        part = Part("values", len(told))
        await self._store.put(_key(self._job_id, part.name), orjson.dumps([{"v": v, "n": n} for v, n in told]))
        await self._finish(Index("values", type_name, len(told), truncated, [part]))

    async def _finish(self, index: Index) -> None:
        await self._store.put(_key(self._job_id, _INDEX), msgspec.json.encode(index))


class Results:
    """Reads and removes what jobs left."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def writer(self, job_id: str) -> ResultWriter:
        return ResultWriter(self._store, job_id)

    async def read(self, job_id: str, offset: int, limit: int) -> dict[str, object]:
        """A slice as callers get it. Raises: NotFoundError: the results are gone. ObjectStoreError."""
        index = msgspec.json.decode(await self._get(job_id, _INDEX), type=Index)
        ends = list(accumulate(part.rows for part in index.parts))
        found: list[object] = []
        at = bisect_right(ends, offset)
        start = offset - (ends[at - 1] if at else 0)
        while at < len(index.parts) and len(found) < limit:
            rows = orjson.loads(await self._get(job_id, index.parts[at].name))
            found += rows[start : start + limit - len(found)]
            start = 0
            at += 1
        if index.kind == "values":
            return {"values": found, "total": index.total, "truncated": index.truncated, "type": index.type_name}
        return {"ids": found, "total": index.total, "id_type": index.type_name}

    async def remove(self, job_id: str) -> None:
        """Removes everything of a job, the index first. Raises: ObjectStoreError."""
        await self._store.delete(_key(job_id, _INDEX))
        prefix = object_key(SCANS, job_id) + "/"
        while keys := await self._store.list_keys(prefix):
            for key in keys:
                await self._store.delete(key)

    async def _get(self, job_id: str, name: str) -> bytes:
        body = await self._store.get(_key(job_id, name))
        if body is None:
            raise NotFoundError(f"the results of scan '{job_id}' are gone")
        return body


def _key(job_id: str, name: str) -> str:
    return object_key(SCANS, job_id, name)
