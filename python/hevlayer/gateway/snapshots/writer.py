"""The automatic writer: once a namespace is stable and its watermark has moved on, its watched fields are counted."""

import asyncio
import logging
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from hevlayer.clock import Backoff, Clock
from hevlayer.errors import LayerError, UpstreamError, ValidationError
from hevlayer.gateway.auth import BackgroundBearers
from hevlayer.gateway.consistency import NamespaceView, Status
from hevlayer.gateway.reads import Reads, ReadTarget, RefusedReadError
from hevlayer.gateway.snapshots.body import SHORT_SHA_CHARS, BrokenSnapshotError, Snapshot
from hevlayer.gateway.snapshots.latest import LatestSnapshots
from hevlayer.gateway.snapshots.materialise import Materialiser, field_type
from hevlayer.gateway.snapshots.place import namespace_in, place_of
from hevlayer.gateway.snapshots.policy import Policies, Rules
from hevlayer.gateway.snapshots.store import SnapshotStore, key_of
from hevlayer.wire.reserved import STAMP_ATTRIBUTE

LEASE = "snapshot-writer"
NOT_FOUND = 404
TURN_SECONDS = 1.0
# A policy that was put is seen after so long.
RULES_SECONDS = 30.0
# A watched namespace that is not there is asked for so often.
ABSENT_SECONDS = 5.0
PRUNE_SECONDS = 3_600.0
# After counts that were not of one moment, or that failed.
AGAIN = Backoff(initial_seconds=2.0, cap_seconds=60.0)
TRIES_COUNTED_MAX = 10
WRITES_AT_ONCE = 4
WRITE_SECONDS_MAX = 1_800.0

log = logging.getLogger("hevlayer.snapshots")


class _Again(NamedTuple):
    """After so many looks in a row that came to nothing, the next one is not before `at`, in monotonic seconds."""

    tries: int
    at: float


class Outcome(Enum):
    """What a look at a namespace came to."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    UNSETTLED = "unsettled"
    FAILED = "failed"


class Watched(Protocol):
    """One namespace as the watcher knows it."""

    namespace: str
    scope: bytes
    view: NamespaceView


class Watch(Protocol):
    """The part of the registry of namespaces that the writer needs."""

    def __iter__(self) -> Iterator[Watched]: ...

    def configure(self, namespace: str) -> None: ...


class SnapshotMetrics(Protocol):
    """What the writer counts."""

    def observe_snapshot(self, namespace: str, outcome: str, seconds: float) -> None: ...


@dataclass(slots=True)
class _Progress:
    """What this process knows of a namespace's snapshots."""

    rules: Rules
    rules_until: float
    counted_through_ms: int = 0
    pruned_at: float = float("-inf")


def is_due(view: NamespaceView, counted_through_ms: int, last_ms: int | None, interval_ms: int) -> bool:
    """Stable, further than what was counted, and not too soon after the last one, `last_ms`."""
    if view.status is not Status.STABLE or view.watermark_ms is None:
        return False
    if view.watermark_ms <= counted_through_ms:
        return False
    floor_ms = max(counted_through_ms, last_ms or 0)
    return floor_ms == 0 or view.watermark_ms - floor_ms >= interval_ms


class SnapshotWriter:
    """Run `run` under the lease. Without a configured upstream key it does nothing."""

    def __init__(
        self,
        store: SnapshotStore,
        latest: LatestSnapshots,
        policies: Policies,
        reads: Reads,
        bearers: BackgroundBearers,
        watch: Watch,
        metrics: SnapshotMetrics,
        clock: Clock,
        *,
        trusted: bool,
        rng: random.Random,
    ) -> None:
        self._store = store
        self._latest = latest
        self._policies = policies
        self._reads = reads
        self._bearers = bearers
        self._watch = watch
        self._metrics = metrics
        self._clock = clock
        self._trusted = trusted
        self._rng = rng
        self._known: dict[str, _Progress] = {}
        self._again: dict[str, _Again] = {}
        self._working: dict[str, asyncio.Task[None]] = {}
        self._gate = asyncio.Semaphore(WRITES_AT_ONCE)
        # Places with a policy of their own, as of the last listing.
        self._governed: frozenset[str] = frozenset()
        self._listed_at = float("-inf")
        self._asked_at = float("-inf")

    def wake(self, place: str) -> None:
        """A policy was put by this process."""
        self._governed |= {place}
        known = self._known.get(namespace_in(place))
        if known is not None:
            known.rules_until = float("-inf")
        self._watch.configure(namespace_in(place))

    async def run(self) -> None:
        """Looks at every namespace again and again. For one process at a time."""
        try:
            while True:
                await self.turn()
                await self._clock.sleep(TURN_SECONDS)
        finally:
            tasks = list(self._working.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._working.clear()
            self._known.clear()

    async def turn(self) -> None:
        """Starts a look at every namespace that none is under way for."""
        if not self._bearers.configured:
            return
        await self._list_policies()
        now = self._clock.monotonic()
        ask_again = now - self._asked_at >= ABSENT_SECONDS
        if ask_again:
            self._asked_at = now
        # Only what is watched under our own key: a caller's namespace of the same name may be another one.
        views = {entry.namespace: entry.view for entry in self._watch if not entry.scope}
        for gone in self._known.keys() - views.keys() - self._working.keys():
            del self._known[gone]
            self._again.pop(gone, None)
        governed = {namespace_in(place) for place in self._governed} | self._policies.configured
        for namespace in governed:
            view = views.get(namespace)
            if view is None:
                # It was not there when it was last asked for, or it is known to another process alone.
                if ask_again:
                    self._watch.configure(namespace)
            elif namespace not in self._working and self._may_be_due(namespace, view):
                self._working[namespace] = asyncio.create_task(self._visit(namespace, view), name="snapshot")

    async def settle(self) -> None:
        """Waits for the looks that are under way."""
        await asyncio.gather(*self._working.values(), return_exceptions=True)

    async def _list_policies(self) -> None:
        now = self._clock.monotonic()
        if now - self._listed_at < RULES_SECONDS:
            return
        self._listed_at = now
        try:
            self._governed = frozenset(await self._policies.places())
        except LayerError as error:
            log.warning("snapshot policies cannot be listed", extra={"reason": error.message})

    def _may_be_due(self, namespace: str, view: NamespaceView) -> bool:
        known = self._known.get(namespace)
        now = self._clock.monotonic()
        again = self._again.get(namespace)
        if (again is not None and now < again.at) or view.status is not Status.STABLE:
            return False
        if known is None or known.rules_until <= now:
            return True
        if not known.rules.fields:
            return False
        return is_due(view, known.counted_through_ms, None, known.rules.interval_ms)

    async def _visit(self, namespace: str, view: NamespaceView) -> None:
        try:
            async with self._gate:
                await self._measure(namespace, view)
        finally:
            self._working.pop(namespace, None)

    async def _measure(self, namespace: str, view: NamespaceView) -> None:
        started = self._clock.monotonic()
        outcome: Outcome | None = Outcome.FAILED
        try:
            async with asyncio.timeout(WRITE_SECONDS_MAX):
                outcome = await self._look(namespace, view)
        except LayerError as error:
            log.warning("snapshot not written", extra={"namespace": namespace, "reason": error.message})
        except TimeoutError:
            log.warning("snapshot not written in time", extra={"namespace": namespace})
        except Exception:
            log.exception("snapshot failed", extra={"namespace": namespace})
        if outcome is None:
            return
        now = self._clock.monotonic()
        self._metrics.observe_snapshot(namespace, outcome.value, now - started)
        if outcome in (Outcome.FAILED, Outcome.UNSETTLED):
            tried = self._again.get(namespace, _Again(0, now)).tries
            self._again[namespace] = _Again(tried + 1, now + AGAIN.delay(min(tried, TRIES_COUNTED_MAX), self._rng))
        else:
            self._again.pop(namespace, None)

    async def _look(self, namespace: str, view: NamespaceView) -> Outcome | None:
        """None: there was nothing to count now."""
        place = place_of(namespace, self._trusted, view.created_at)
        now = self._clock.monotonic()
        known = self._known.get(namespace)
        if known is None or known.rules_until <= now:
            rules = await self._policies.rules(place, may_be_kept=place in self._governed)
            if known is None:
                known = self._known[namespace] = _Progress(rules, 0.0)
            known.rules, known.rules_until = rules, now + RULES_SECONDS
        if known.rules.fields:
            last = await self._latest.entry(place)
            last_ms = None if last is None else last.watermark_ms
            if is_due(view, known.counted_through_ms, last_ms, known.rules.interval_ms):
                outcome = await self._write(namespace, place, view, known)
                await self._prune(place, known)
                return outcome
        await self._prune(place, known)
        return None

    async def _write(self, namespace: str, place: str, view: NamespaceView, known: _Progress) -> Outcome | None:
        """Counts and, when the shape is a new one, keeps it."""
        watermark_ms = view.watermark_ms
        assert watermark_ms is not None
        target = ReadTarget(namespace, b"", self._bearers.background_bearer(namespace), job=f"snapshot of {namespace}")
        metadata = await self._reads.metadata(target)
        schema = metadata.get("schema")
        if not isinstance(schema, Mapping):
            raise UpstreamError("the upstream's metadata has no schema")
        types = _types(schema, known.rules.fields)
        if not types or STAMP_ATTRIBUTE not in schema:
            known.counted_through_ms = watermark_ms
            return None
        identity = metadata.get("created_at")
        if identity != view.created_at:
            return Outcome.UNSETTLED
        settled = await Materialiser(self._reads, target).count_settled(types, watermark_ms)
        if settled is None or not settled.at_one_moment:
            return Outcome.UNSETTLED
        snapshot = await asyncio.to_thread(
            Snapshot.of, place, watermark_ms, settled.histogram, identity=view.created_at
        )
        if await self._is_known(snapshot):
            known.counted_through_ms = watermark_ms
            return Outcome.UNCHANGED
        if not await self._publish(snapshot, target):
            return Outcome.UNSETTLED
        known.counted_through_ms = watermark_ms
        await self._latest.published(snapshot)
        return Outcome.WRITTEN

    async def _publish(self, snapshot: Snapshot, target: ReadTarget) -> bool:
        """Keeps a body; False when its namespace was deleted meanwhile, whose cleanup may have passed already."""
        is_new = await self._store.publish(snapshot) is not None
        stands: bool | None = None
        try:
            metadata = await self._reads.metadata(target)
            stands = metadata.get("created_at") == snapshot.identity
        except RefusedReadError as refusal:
            if refusal.answered != NOT_FOUND:
                raise
            stands = False
        finally:
            if stands is False or (stands is None and is_new):
                # In doubt too: the next look counts again.
                await self._store.remove(key_of(snapshot))
        return stands

    async def _is_known(self, snapshot: Snapshot) -> bool:
        """Whether the latest one has this shape already, or is a later one of another process."""
        entry = await self._latest.entry(snapshot.place, fresh=True)
        if entry is None:
            return False
        if entry.watermark_ms > snapshot.watermark_ms:
            return True
        if entry.short_sha != snapshot.sha[:SHORT_SHA_CHARS]:
            return False
        try:
            latest = await self._latest.read(entry)
        except BrokenSnapshotError as error:
            # A whole one in its place is what mends it.
            log.warning("the latest snapshot is damaged", extra={"reason": error.message})
            return False
        return latest is not None and (latest.sha, latest.identity) == (snapshot.sha, snapshot.identity)

    async def _prune(self, place: str, known: _Progress) -> None:
        retention_ms = known.rules.retention_ms
        now = self._clock.monotonic()
        if retention_ms is None or now - known.pruned_at < PRUNE_SECONDS:
            return
        known.pruned_at = now
        await self._store.prune(place, self._clock.now_ms() - retention_ms)


def _types(schema: Mapping[str, object], fields: Iterable[str]) -> dict[str, str]:
    """The types of the watched fields that the namespace has and that can be counted."""
    types: dict[str, str] = {}
    for name in fields:
        try:
            types[name] = field_type(schema, name)
        except ValidationError as error:
            log.info("a watched field is left out", extra={"reason": error.message})
    return types
