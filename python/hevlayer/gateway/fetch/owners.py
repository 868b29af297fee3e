"""Whose rows the document cache holds under a name, when callers of several organisations may use that name.

Without a gateway key a namespace is known by its name and by its `created_at`, as the upstream told it to the caller.
The cache keeps one namespace's rows under a name; callers who proved another one are served without the cache. Writes
and epochs go by the name alone: at worst they void too much.
"""

from collections import OrderedDict
from typing import Protocol

from hevlayer.clock import Clock, SingleFlight
from hevlayer.gateway.fetch.reader import FACTS_MAX
from hevlayer.stores.objects import ObjectStore, ObjectStoreError
from hevlayer.wire.names import object_key

# An owner keeps its place for this long after its last use. Longer than a look-up can be under way, so that none of
# the old owner's ends after the new one's epoch.
OWNED_SECONDS = 60.0
# A look-up or a change of an owner takes no longer; a caller who waits in vain is served without the cache.
STORE_SECONDS = 1.0
_KEYS = "cache-owners"


class Epochs(Protocol):
    """The part of the cache that voids a namespace's rows."""

    async def new_epoch(self, namespace: str) -> None: ...


class Owners(Protocol):
    """Who may see the rows under a name."""

    async def admit(self, namespace: str, identity: str | None) -> bool: ...

    def holds(self, namespace: str, identity: str | None) -> bool:
        """Whether one that was admitted still is: asked after a look-up, before its answer is used."""

    def release(self, namespace: str) -> None:
        """The namespace was deleted, or another one has its name now: the next one need not wait for the place."""


class CacheOwners:
    """`store` belongs to the cache alone: what it says must be true of the rows on that disk."""

    def __init__(self, cache: Epochs, store: ObjectStore, clock: Clock) -> None:
        self._cache = cache
        self._store = store
        self._clock = clock
        self._owners: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._flights: SingleFlight[str, None] = SingleFlight()
        # Owners that were put without an answer: the put may yet happen, so nobody else may have that place.
        self._unsure: dict[str, bytes] = {}

    async def admit(self, namespace: str, identity: str | None) -> bool:
        """Whether the cached rows of `namespace` are those of the namespace with this identity, or nobody's."""
        if identity is None:
            return False
        owner = self._owners.get(namespace)
        if owner is None or owner[0] != identity:
            if owner is not None and owner[1] + OWNED_SECONDS > self._clock.monotonic():
                return False
            await self._flights.run(namespace, lambda: self._claim(namespace, identity))
            owner = self._owners.get(namespace)
            if owner is None or owner[0] != identity:
                return False
        self._owners[namespace] = (identity, self._clock.monotonic())
        return True

    def holds(self, namespace: str, identity: str | None) -> bool:
        """Whether an identity that was admitted has its place still. If so then what was looked up since is of no
        other one, whose claim begins with an epoch of its own."""
        owner = self._owners.get(namespace)
        return owner is not None and owner[0] == identity

    def release(self, namespace: str) -> None:
        """Gives the place to whoever asks next. Whoever looks something up meanwhile is told by `holds`."""
        self._owners.pop(namespace, None)

    async def _claim(self, namespace: str, identity: str) -> None:
        # From here on the former owner is refused too, so that nothing of it is filled after the epoch.
        self._owners.pop(namespace, None)
        key, wanted = object_key(_KEYS, namespace), identity.encode("utf-8", "surrogatepass")
        if self._unsure.get(namespace, wanted) != wanted or len(self._unsure) > FACTS_MAX:
            return
        try:
            if await self._store.get(key) != wanted:
                await self._cache.new_epoch(namespace)
                self._unsure[namespace] = wanted
                await self._store.put(key, wanted)
        except ObjectStoreError:
            return
        self._unsure.pop(namespace, None)
        self._owners[namespace] = (identity, self._clock.monotonic())
        if len(self._owners) > FACTS_MAX:
            self._owners.popitem(last=False)
