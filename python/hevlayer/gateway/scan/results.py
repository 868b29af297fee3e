"""Where a scan's results are kept: parts in the object store, and an index of them that is written last.

A part is a JSON array of at most one page of ids, or all values. The index lists the parts in the order of their first
ids, so that a slice reads only the parts that it needs. What is not there any more is as if the job had none.

Results go with their job. Those of jobs whose process is gone are found by their keys, which begin with the time at
which the job was made. A process keeps a bounded number of bytes: the oldest results make room.
"""

import logging
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from itertools import accumulate

import msgspec
import orjson

from hevlayer.clock import Clock
from hevlayer.errors import NotFoundError, ServiceUnavailableError
from hevlayer.gateway.jobs import JobRecord
from hevlayer.gateway.reads import Id
from hevlayer.gateway.scan.bodies import ValueCount, value_text
from hevlayer.stores.objects import ObjectStore, ObjectStoreError
from hevlayer.wire.names import object_key

SCANS = "scans"
IDS_MAX = 100_000_000
BYTES_MAX = 8 << 30
SWEEP_SECONDS = 3_600.0
_INDEX = "index"

log = logging.getLogger("hevlayer.scan")


class ResultsFullError(ServiceUnavailableError):
    """The results of running scans alone are more than are kept."""


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

    def __init__(self, results: "Results", job: JobRecord) -> None:
        self._results = results
        self._job = job
        self._written: list[_Written] = []
        self._parts = 0
        self.total = 0

    async def add_ids(self, ids: list[Id]) -> None:
        """One page of ids, in ascending order; pages come in any order. Raises: ObjectStoreError."""
        if ids:
            body = orjson.dumps([each if isinstance(each, str) else str(each) for each in ids])
            await self._put(ids[0], body, len(ids))

    async def add_page(self, page: bytes, rows: int) -> None:
        """The next of pages that come in order: a JSON array of ids as strings. Raises: ObjectStoreError."""
        await self._put(self._parts, page, rows)

    async def _put(self, first: Id, body: bytes, rows: int) -> None:
        self._parts += 1
        part = Part(f"{self._parts:08}", rows)
        self.total += rows
        await self._results.put(self._job, part.name, body)
        self._written.append(_Written(first, part))

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
        await self._results.put(self._job, part.name, orjson.dumps([{"v": v, "n": n} for v, n in told]))
        await self._finish(Index("values", type_name, len(told), truncated, [part]))

    async def _finish(self, index: Index) -> None:
        await self._results.put(self._job, _INDEX, msgspec.json.encode(index))
        self._results.finished(self._job)


class Results:
    """Keeps, reads and removes what jobs found."""

    def __init__(self, store: ObjectStore, clock: Clock, *, life_seconds: float, bytes_max: int = BYTES_MAX) -> None:
        """`life_seconds`: no job's results are wanted for longer after the job was made."""
        self._store = store
        self._clock = clock
        self._life_ms = int(life_seconds * 1000)
        self._bytes_max = bytes_max
        # What this process has written: bytes by job, and the jobs that are done, oldest first.
        self._bytes: dict[str, int] = {}
        self._done: OrderedDict[str, JobRecord] = OrderedDict()

    @property
    def bytes_kept(self) -> int:
        return sum(self._bytes.values())

    def writer(self, job: JobRecord) -> ResultWriter:
        return ResultWriter(self, job)

    async def put(self, job: JobRecord, name: str, body: bytes) -> None:
        """Raises: ObjectStoreError, ResultsFullError."""
        self._bytes[job.id] = self._bytes.get(job.id, 0) + len(body)
        while self.bytes_kept > self._bytes_max:
            if not self._done:
                raise ResultsFullError(f"the results of running scans are more than {self._bytes_max} bytes")
            oldest = self._done[next(iter(self._done))]
            log.info("results of a scan make room", extra={"job": oldest.id})
            await self.remove(oldest)
        await self._store.put(_key(job, name), body)

    def finished(self, job: JobRecord) -> None:
        """All of a job's results are written."""
        self._done[job.id] = job

    async def read(self, job: JobRecord, offset: int, limit: int) -> dict[str, object]:
        """A slice as callers get it. Raises: NotFoundError: the results are gone. ObjectStoreError."""
        index = msgspec.json.decode(await self._get(job, _INDEX), type=Index)
        ends = list(accumulate(part.rows for part in index.parts))
        found: list[object] = []
        at = bisect_right(ends, offset)
        start = offset - (ends[at - 1] if at else 0)
        while at < len(index.parts) and len(found) < limit:
            rows = orjson.loads(await self._get(job, index.parts[at].name))
            found += rows[start : start + limit - len(found)]
            start = 0
            at += 1
        if index.kind == "values":
            return {"values": found, "total": index.total, "truncated": index.truncated, "type": index.type_name}
        return {"ids": found, "total": index.total, "id_type": index.type_name}

    async def remove(self, job: JobRecord) -> None:
        """Removes everything of a job, the index first. Raises: ObjectStoreError."""
        self._bytes.pop(job.id, None)
        self._done.pop(job.id, None)
        await self._store.delete(_key(job, _INDEX))
        prefix = object_key(SCANS, _folder(job)) + "/"
        while keys := await self._store.list_keys(prefix):
            for key in keys:
                await self._store.delete(key)

    async def _get(self, job: JobRecord, name: str) -> bytes:
        body = await self._store.get(_key(job, name))
        if body is None:
            raise NotFoundError(f"the results of scan '{job.id}' are gone")
        return body

    # --- what other processes left -----------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            try:
                await self.sweep()
            except ObjectStoreError as error:
                log.warning("cannot sweep the results of scans", extra={"error": error.message})
            await self._clock.sleep(SWEEP_SECONDS)

    async def sweep(self) -> None:
        """Removes the results of jobs, of any process, that nobody can want any more. Raises: ObjectStoreError."""
        oldest = f"{max(0, self._clock.now_ms() - self._life_ms):013}"
        prefix = f"{SCANS}/"
        while True:
            # In the order of their jobs' times.
            keys = await self._store.list_keys(prefix)
            over = [key for key in keys if key.removeprefix(prefix) < oldest]
            for key in over:
                await self._store.delete(key)
            if not over or len(over) < len(keys):
                return


def _folder(job: JobRecord) -> str:
    return f"{job.created_at_ms:013}-{job.id}"


def _key(job: JobRecord, name: str) -> str:
    return object_key(SCANS, _folder(job), name)
