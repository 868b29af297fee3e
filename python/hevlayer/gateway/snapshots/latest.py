"""The latest snapshot of a namespace, without a read of the object store for everyone who asks."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from hevlayer.clock import Clock, SingleFlight
from hevlayer.gateway.snapshots.body import BrokenSnapshotError, Snapshot, read_snapshot
from hevlayer.gateway.snapshots.store import Entry, SnapshotStore, key_of
from hevlayer.stores.objects import ObjectStoreError

# Another process's snapshot is seen after so long; also that there is none.
KNOWN_SECONDS = 10.0
PLACES_MAX = 10_000
# Of all bodies kept here together, about 30 MB.
VALUES_KEPT_MAX = 200_000
# So often a body may be removed between the look for its key and its reading.
LOOKS_MAX = 3
# A count that could do without waits no longer.
LOOK_SECONDS = 1.0


class BodyMirror(Protocol):
    """Where bodies are kept near by. Never raises."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, body: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class _Known:
    entry: Entry | None
    until: float


class LatestSnapshots:
    """Which one is the latest, and its body: from memory, the mirror, or the object store."""

    def __init__(self, store: SnapshotStore, mirror: BodyMirror, clock: Clock) -> None:
        self._store = store
        self._mirror = mirror
        self._now = clock.monotonic
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._bodies: OrderedDict[str, Snapshot] = OrderedDict()
        self._values = 0
        # Until when those who can do without do not ask a store that failed.
        self._away: OrderedDict[str, float] = OrderedDict()
        self._looks: SingleFlight[str, Entry | None] = SingleFlight()
        self._reads: SingleFlight[str, Snapshot | None] = SingleFlight()

    async def entry(self, place: str, *, fresh: bool = False) -> Entry | None:
        """The newest automatic one. `fresh`: as the store says now. Raises: ObjectStoreError."""
        known = self._known.get(place)
        if known is not None and not fresh and known.until > self._now():
            return known.entry

        async def look() -> Entry | None:
            newest = await self._store.newest(place, 1)
            entry = newest[0] if newest else None
            self._remember(place, entry)
            return entry

        return await look() if fresh else await self._looks.run(place, look)

    async def get(self, place: str, *, fresh: bool = False) -> Snapshot | None:
        """Its body; None when there is none. Raises: ObjectStoreError, BrokenSnapshotError."""
        for _ in range(LOOKS_MAX):
            entry = await self.entry(place, fresh=fresh)
            if entry is None:
                return None
            found = await self.read(entry)
            if found is not None:
                return found
            # Retention took it since it was looked for, which there is a newer one for.
            fresh = True
        return None

    async def read(self, entry: Entry) -> Snapshot | None:
        """The body of an entry; None when it is gone. Raises: ObjectStoreError, BrokenSnapshotError."""
        held = self._bodies.get(entry.key)
        if held is not None:
            self._bodies.move_to_end(entry.key)
            return held
        return await self._reads.run(entry.key, lambda: self._read(entry))

    async def _read(self, entry: Entry) -> Snapshot | None:
        mirrored = await self._mirror.get(entry.key)
        if mirrored is not None:
            try:
                return self._keep(entry.key, await asyncio.to_thread(read_snapshot, entry.place, mirrored, entry.key))
            except BrokenSnapshotError:
                # The store has the true one.
                pass
        body = await self._store.read(entry)
        if body is None:
            return None
        snapshot = await asyncio.to_thread(read_snapshot, entry.place, body, entry.key)
        await self._mirror.put(entry.key, body)
        return self._keep(entry.key, snapshot)

    async def soon(self, place: str) -> Snapshot | None:
        """As `get`, for those who can do without: None as well when the store fails or takes too long."""
        if self._away.get(place, 0.0) > self._now():
            return None
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await self.get(place)
        except (ObjectStoreError, BrokenSnapshotError, TimeoutError):
            # A store that is away is not asked by everyone. Those who need it hear of it: it is not known that there
            # is no snapshot.
            self._away[place] = self._now() + KNOWN_SECONDS
            self._away.move_to_end(place)
            if len(self._away) > PLACES_MAX:
                self._away.popitem(last=False)
            return None

    async def published(self, snapshot: Snapshot) -> None:
        """A new one was written by this process."""
        key = key_of(snapshot)
        self._away.pop(snapshot.place, None)
        self._remember(snapshot.place, Entry(snapshot.place, snapshot.watermark_ms, snapshot.sha[:7], key))
        self._keep(key, snapshot)
        await self._mirror.put(key, await asyncio.to_thread(snapshot.encode))

    def forget(self, place: str) -> None:
        """What was known of it may be gone."""
        self._known.pop(place, None)
        self._away.pop(place, None)

    def _remember(self, place: str, entry: Entry | None) -> None:
        self._known[place] = _Known(entry, self._now() + KNOWN_SECONDS)
        self._known.move_to_end(place)
        if len(self._known) > PLACES_MAX:
            self._known.popitem(last=False)

    def _keep(self, key: str, snapshot: Snapshot) -> Snapshot:
        if key not in self._bodies:
            self._bodies[key] = snapshot
            self._values += snapshot.value_count
        while self._values > VALUES_KEPT_MAX and self._bodies:
            _, gone = self._bodies.popitem(last=False)
            self._values -= gone.value_count
        return snapshot
