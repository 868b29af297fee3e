"""The Aerospike engine: the Rust client's door to a cluster that several gateways share.

A call starts an operation on the client's own threads; when a batch of operations has ended, one event on the loop
takes all of their ends. Each carries its deadline with it, so a caller that goes away leaves nothing that lasts.
"""

import asyncio
import contextlib
import hashlib
import itertools
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hevlayer.clock import Clock
from hevlayer.errors import CacheUnavailableError, ConfigurationError
from hevlayer.kernels.doccache import AerospikeEngine as NativeEngine
from hevlayer.kernels.doccache import DocCacheError, DocProjection, DocRows, FetchHits
from hevlayer.kernels.filters import CancelFlag
from hevlayer.kernels.http import RequestHead
from hevlayer.stores.doccache_engine import (
    UNKNOWN_WRITE_SECONDS,
    EngineStats,
    NamespaceFacts,
    NamespaceScan,
    Ticket,
    WriteOutcome,
)

log = logging.getLogger("hevlayer.doccache")

TIMEOUT_SECONDS = 0.2
TTL_SECONDS = 86_400.0
CONNECT_SECONDS = 2.0
NAMESPACE = "hevlayer"
SET_PREFIX = "hevlayer"
# Scans hold what they found: a million documents of half a kilobyte beside their vectors.
SCAN_BYTES_MAX = 512 << 20
# By how much the clocks of gateways may differ: marks and statements of debts last longer by that.
CLOCK_SKEW_SECONDS = 5.0
# One budget covers this many ids of a batch.
BUDGET_KEYS = 500
# The client ends an operation at its budget; past this much more its threads are stuck.
GRACE_SECONDS = 1.0
CLOSE_SECONDS = 5.0
# For what a trim of one namespace may take: it reads all of its records.
TRIM_SECONDS = 30.0
HOLES_SECONDS = 30.0
# A ticket of `begin_fill` is an epoch and a moment in it, which has so many bits.
MOMENT_BITS = 64
# A debt is stated again this often, because the server takes a silent owner for a dead one after 30 seconds.
OWE_AGAIN_SECONDS = 10.0
NOTE_CHARACTERS_MAX = 1_000
SCOPE_CHARACTERS = 16


_SET_PREFIX = re.compile(r"[A-Za-z0-9_.-]{1,59}")


def set_prefix(value: str) -> str:
    """A set's name has at most 63 bytes, of which a prefix leaves 4; the server cuts names at other characters."""
    if not _SET_PREFIX.fullmatch(value):
        raise ValueError(f"must be 1 to 59 characters of A-Z, a-z, 0-9, _, . and -, was {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class AerospikeSettings:
    """Where the cluster is. `hosts`: `host:port`, comma-separated; the port is 3000 unless given."""

    hosts: str
    namespace: str = NAMESPACE
    set_prefix: str = SET_PREFIX
    user: str = ""
    password: str = ""
    connect_seconds: float = CONNECT_SECONDS
    identity: str = ""
    """Whose rows these are: gateways of another upstream, or key, share nothing with these."""
    scan_bytes_max: int = SCAN_BYTES_MAX
    """What all scans of this process may hold in memory together."""


class AerospikeEngine:
    """See `Engine`. Its first call reaches for the cluster, which is then kept reached; `connect` waits for that."""

    def __init__(
        self,
        settings: AerospikeSettings,
        clock: Clock,
        *,
        ttl_seconds: float = TTL_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
        unknown_write_seconds: float = UNKNOWN_WRITE_SECONDS,
        clock_skew_seconds: float = CLOCK_SKEW_SECONDS,
    ) -> None:
        """Raises: ConfigurationError: a setting breaks a rule of the server."""
        try:
            self._native = NativeEngine(
                settings.hosts,
                settings.namespace,
                settings.set_prefix,
                scope=hashlib.sha256(settings.identity.encode()).hexdigest()[:SCOPE_CHARACTERS],
                user=settings.user,
                password=settings.password,
                connect_ms=_ms(settings.connect_seconds),
                ttl_ms=_ms(ttl_seconds),
                unknown_write_ms=_ms(unknown_write_seconds),
                clock_skew_ms=_ms(clock_skew_seconds),
                scan_bytes_max=settings.scan_bytes_max,
            )
        except DocCacheError as error:
            raise ConfigurationError([str(error.args[1])]) from error
        self._clock = clock
        self._connect_seconds = settings.connect_seconds
        self._timeout_seconds = timeout_seconds
        self._calls = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._limited: set[str] = set()
        self._owner = 0
        self._owed: tuple[str, ...] | None = ()
        self._owed_again = 0.0
        self._server: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return "aerospike"

    @property
    def loses_marks(self) -> bool:
        return True

    @property
    def inflight(self) -> int:
        """Calls to the server that are under way or wait, also those whose callers went away."""
        return self._native.counters()["inflight"]

    async def connect(self) -> str | None:
        """Waits until the cluster was reached or that failed. Returns: why it failed."""
        try:
            self._attach()
            self._server = await self._call(self._native.connect, seconds=4 * self._connect_seconds)
        except CacheUnavailableError as error:
            return error.message
        return None

    # --- reads -------------------------------------------------------------------------------------------------------

    async def lookup(
        self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None
    ) -> bytes | Ticket:
        found: bytes | Ticket = await self._timed(
            self._native.lookup, namespace, key, projection, id_type, self._clock.now_ms()
        )
        return found

    def lookup_now(self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None) -> bytes | None:
        """None: every look-up is a round trip."""
        return None

    def answer_now(self, hits: FetchHits, head: RequestHead, now: float, date_line: bytes) -> None:
        """As `lookup_now`."""

    async def lookup_many(
        self, namespace: str, keys: Sequence[bytes], projection: DocProjection
    ) -> list[bytes | Ticket]:
        if not keys:
            return []
        found: list[bytes | Ticket] = await self._timed(
            self._native.lookup_many,
            namespace,
            list(keys),
            projection,
            self._clock.now_ms(),
            keys=len(keys),
        )
        return found

    async def fill(self, namespace: str, rows: DocRows, keys: Sequence[bytes], tickets: Sequence[Ticket]) -> int:
        good = [(key, ticket) for key, ticket in zip(keys, tickets, strict=True) if ticket > 0]
        if not good:
            return 0
        wanted, seen = [key for key, _ in good], [ticket for _, ticket in good]
        put: int = await self._timed(
            self._native.fill, namespace, rows, wanted, seen, self._clock.now_ms(), keys=len(good)
        )
        return put

    async def begin_fill(self, namespace: str) -> Ticket:
        began: tuple[int, int] | None = await self._timed(self._native.begin_fill, namespace, self._clock.now_ms())
        return 0 if began is None else began[0] << MOMENT_BITS | began[1]

    async def fill_page(self, namespace: str, rows: DocRows, ticket: Ticket) -> tuple[int, list[bytes]]:
        if ticket <= 0 or not len(rows):
            return 0, rows.keys()
        began = divmod(ticket, 1 << MOMENT_BITS)
        page: tuple[int, list[bytes]] = await self._timed(
            self._native.fill_page, namespace, rows, began, self._clock.now_ms(), keys=len(rows)
        )
        return page

    # --- writes ------------------------------------------------------------------------------------------------------

    async def mark(self, token: int, namespace: str, keys: Sequence[bytes] | None, seconds: float) -> None:
        now_ms = self._clock.now_ms()
        wanted = None if keys is None else list(keys)
        await self._timed(
            self._native.mark,
            token,
            namespace,
            wanted,
            now_ms,
            now_ms + _ms(seconds),
            keys=len(wanted or ()),
        )

    async def settle(
        self,
        token: int,
        namespace: str,
        keys: Sequence[bytes] | None,
        outcome: WriteOutcome,
        *,
        changed: Sequence[bytes] | None = None,
        rows: DocRows | None = None,
        deleted: Sequence[bytes] = (),
    ) -> bool:
        found: bool = await self._timed(
            self._native.settle,
            token,
            namespace,
            None if keys is None else list(keys),
            outcome.value,
            None if changed is None else list(changed),
            rows,
            list(deleted),
            self._clock.now_ms(),
            keys=len(keys or changed or ()),
        )
        return found

    async def beneath(self, token: int, namespace: str, keys: Sequence[bytes]) -> DocRows:
        if not keys:
            return DocRows.joined([])
        rows: DocRows = await self._timed(
            self._native.beneath, token, namespace, list(keys), self._clock.now_ms(), keys=len(keys)
        )
        return rows

    async def clear(self, namespace: str) -> None:
        await self._timed(self._native.clear, namespace, self._clock.now_ms())

    async def owe(self, owner: int, namespaces: Sequence[str] | None) -> None:
        self._owner = owner
        before = self._owed
        now = None if namespaces is None else tuple(namespaces)
        # Known before it is told, so that the upkeep goes on telling it when this fails.
        self._owed = now
        await self._tell_owed()
        if now is not None and before is None:
            await self._owe_one(None, False)
        for name in before or ():
            if now is None or name not in now:
                await self._owe_one(name, False)

    async def take_over(self, owner: int, namespaces: Sequence[str] | None) -> None:
        # Nobody says it again, so the server takes the owner for dead when its time is over.
        for name in (None,) if namespaces is None else namespaces:
            await self._owe_one(name, True, owner)

    async def _tell_owed(self) -> None:
        self._owed_again = self._clock.monotonic() + OWE_AGAIN_SECONDS
        for name in (None,) if self._owed is None else self._owed:
            await self._owe_one(name, True)

    async def _owe_one(self, namespace: str | None, owed: bool, owner: int | None = None) -> None:
        # A statement about every namespace waits until every gateway has looked.
        seconds = self._timeout_seconds + GRACE_SECONDS
        owner = self._owner if owner is None else owner
        await self._timed(self._native.owe, owner, namespace, owed, self._clock.now_ms(), seconds=seconds)

    # --- completeness ------------------------------------------------------------------------------------------------

    async def facts(self, namespace: str) -> NamespaceFacts:
        return NamespaceFacts(**await self._timed(self._native.facts, namespace, self._clock.now_ms()))

    async def scan(self, namespace: str, seconds: float, cancel: CancelFlag | None = None) -> NamespaceScan:
        """Each row as it was when the server came to it, all of them in one epoch; see `ScansRows`.

        The facts are those of the whole scan: with a note only if nothing was lost from its beginning to its end.
        """
        rows, facts = await self._timed(self._native.scan, namespace, self._clock.now_ms(), cancel, seconds=seconds)
        return NamespaceScan(rows, NamespaceFacts(**facts))

    async def holes(self, namespace: str, limit: int) -> list[bytes]:
        if limit <= 0:
            return []
        found: list[bytes] = await self._timed(
            self._native.holes, namespace, limit, self._clock.now_ms(), seconds=HOLES_SECONDS
        )
        return found

    async def note(self, namespace: str, text: str, epoch: int, lost: int) -> bool:
        if len(text) > NOTE_CHARACTERS_MAX:
            return False
        kept: bool = await self._timed(self._native.note, namespace, text.encode(), epoch, lost, self._clock.now_ms())
        return kept

    # --- limits and upkeep -------------------------------------------------------------------------------------------

    async def limit(self, namespace: str, capacity_bytes: int | None) -> None:
        await self._timed(self._native.limit, namespace, capacity_bytes or 0, self._clock.now_ms())
        if capacity_bytes is None:
            self._limited.discard(namespace)
        else:
            self._limited.add(namespace)

    async def set_ttl(self, seconds: float) -> None:
        self._native.set_ttl(_ms(seconds))

    async def maintain(self) -> None:
        if self._owed != () and self._clock.monotonic() >= self._owed_again:
            await self._tell_owed()
        await self._timed(self._native.end_owed, self._clock.now_ms())
        for namespace in sorted(self._limited):
            await self._timed(self._native.trim, namespace, self._clock.now_ms(), seconds=TRIM_SECONDS)

    async def stats(self) -> EngineStats:
        server = self._server = await self._call(self._native.server, seconds=self._connect_seconds)
        counters = self._native.counters()
        return EngineStats(
            rows=counters["rows"],
            bytes=counters["bytes"],
            capacity_bytes=server["capacity_bytes"],
            open_writes=counters["marked"],
            evicted_rows=server["evicted"],
            refused_fills=counters["refused_fills"],
            io_errors=counters["failures"],
            connections=counters["nodes"],
            connects=counters["connects"],
            notes=_notes(server),
        )

    async def close(self) -> None:
        if self._closed:
            return
        try:
            if self._loop is not None:
                await self._timed(self._native.close, seconds=CLOSE_SECONDS)
        finally:
            self._closed = True
            self._native.stop()
            if self._loop is not None:
                self._loop.remove_reader(self._native.fileno())
            for future in self._waiting.values():
                future.cancel()
            self._waiting.clear()

    # --- calls -------------------------------------------------------------------------------------------------------

    async def _timed(
        self, start: Callable[..., None], *arguments: Any, keys: int = 1, seconds: float | None = None
    ) -> Any:
        """An operation with a budget, which it is given as its second argument, in milliseconds."""
        budget = seconds or self._timeout_seconds * (1 + keys // BUDGET_KEYS)
        return await self._call(start, _ms(budget), *arguments, seconds=budget)

    async def _call(self, start: Callable[..., None], *arguments: Any, seconds: float) -> Any:
        """Raises: CacheUnavailableError: it failed, or did not end in time."""
        if self._closed:
            raise CacheUnavailableError("the document cache is closed")
        if self._loop is None:
            self._attach()
            # The first caller does not wait for a cluster that may not be there; its own call says so.
            with contextlib.suppress(CacheUnavailableError):
                self._server = await self._call(self._native.connect, seconds=seconds)
        call = next(self._calls)
        assert self._loop is not None
        future = self._waiting[call] = self._loop.create_future()
        try:
            start(call, *arguments)
            async with asyncio.timeout(seconds + GRACE_SECONDS):
                return await future
        except TimeoutError:
            raise CacheUnavailableError("the document cache did not answer within its time budget") from None
        finally:
            self._waiting.pop(call, None)

    def _attach(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._native.fileno(), self._take)

    def _take(self) -> None:
        for call, failed, answer in self._native.take():
            future = self._waiting.get(call)
            if future is None or future.done():
                continue
            if failed:
                code, message = answer
                future.set_exception(CacheUnavailableError(message, fields={"cause": code}))
            else:
                future.set_result(answer)


def _notes(server: dict[str, Any]) -> tuple[str, ...]:
    notes = []
    if not server["expires"]:
        notes.append(
            "the Aerospike namespace has no expiry (nsup-period is 0): records that are over are served to nobody, "
            "but their space is not given back"
        )
    if server["stop_writes"]:
        notes.append("the Aerospike namespace takes no writes (stop-writes): rows are served but none is kept")
    return tuple(notes)


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
