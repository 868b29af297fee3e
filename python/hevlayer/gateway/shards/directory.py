"""Which namespaces are sharded: their manifests, listed and read from the object store again and again.

Whatever this says may be out of date, and nothing comes out wrong: the legs of a scattered query find every row exactly
once for any number of shards, since a row without a shard, or with a foreign one, is in the last leg.
"""

import logging

from hevlayer.clock import Clock
from hevlayer.errors import ConflictError, LayerError
from hevlayer.gateway.shards.manifest import (
    PREFIX,
    BrokenManifestError,
    Manifest,
    ShardState,
    manifest_key,
    namespace_of,
    read_manifest,
)
from hevlayer.stores.objects import ObjectStore

# One listing for all namespaces; another process's change is seen after so long.
REFRESH_SECONDS = 10.0
LIST_PAGE_KEYS = 1_000

log = logging.getLogger("hevlayer.shards")


class ShardDirectory:
    """Manifests by namespace. Run `run` under a supervisor."""

    def __init__(self, store: ObjectStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._manifests: dict[str, Manifest] = {}
        # Changed here while a listing was under way, which may not know of it.
        self._touched: set[str] = set()

    def manifest(self, namespace: str) -> Manifest | None:
        """None for a namespace that is not sharded, as far as is known."""
        return self._manifests.get(namespace)

    def shard_count(self, namespace: str) -> int:
        """1 for a namespace that is not sharded."""
        manifest = self._manifests.get(namespace)
        return 1 if manifest is None else manifest.shard_count

    def unfinished(self) -> list[tuple[str, Manifest]]:
        """Every namespace whose backfill is to be done."""
        return [pair for pair in self._manifests.items() if pair[1].state is ShardState.BACKFILLING]

    async def run(self) -> None:
        """Keeps up with the store, from a first `refresh` on."""
        while True:
            await self._clock.sleep(REFRESH_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        """One look at the store. When it fails, what was known stands."""
        self._touched.clear()
        try:
            listed = await self._list()
            for namespace in listed:
                known = self._manifests.get(namespace)
                if known is None or known.state is not ShardState.READY:
                    await self._look_past_damage(namespace)
        except LayerError as error:
            log.warning("the shard manifests cannot be read", extra={"reason": error.message})
            return
        for namespace in self._manifests.keys() - listed - self._touched:
            del self._manifests[namespace]

    async def _list(self) -> set[str]:
        found: set[str] = set()
        after = ""
        while keys := await self._store.list_keys(PREFIX, after=after, limit=LIST_PAGE_KEYS):
            found.update(namespace for key in keys if (namespace := namespace_of(key)) is not None)
            after = keys[-1]
        return found

    async def _look_past_damage(self, namespace: str) -> None:
        """One manifest that cannot be read keeps no other namespace from its own."""
        try:
            await self._look(namespace)
        except BrokenManifestError as error:
            log.warning("a shard manifest cannot be read", extra={"namespace": namespace, "reason": error.message})

    async def _look(self, namespace: str) -> Manifest | None:
        body = await self._store.get(manifest_key(namespace))
        if body is None:
            self._manifests.pop(namespace, None)
            return None
        manifest = self._manifests[namespace] = read_manifest(body)
        return manifest

    async def create(self, namespace: str, shard_count: int, state: ShardState) -> Manifest:
        """Makes a namespace sharded. The manifest that stands is given back when it has as many shards.

        Raises: ConflictError: it has another number of shards. ObjectStoreError, BrokenManifestError.
        """
        self._touched.add(namespace)
        manifest = Manifest(shard_count, state, self._clock.now_ms())
        if not await self._store.put_if_absent(manifest_key(namespace), manifest.encode()):
            standing = await self._look(namespace)
            if standing is None:
                raise ConflictError("shard_count: the namespace was deleted meanwhile")
            if standing.shard_count != shard_count:
                raise ConflictError(
                    f"shard_count: the namespace has {standing.shard_count} shards, which cannot be changed"
                )
            return standing
        self._manifests[namespace] = manifest
        return manifest

    async def mark_ready(self, namespace: str, manifest: Manifest) -> None:
        """Its rows carry their shards. Raises: ObjectStoreError."""
        if await self._look(namespace) != manifest:
            # Deleted meanwhile, and perhaps made again.
            return
        self._touched.add(namespace)
        ready = manifest._replace(state=ShardState.READY)
        await self._store.put(manifest_key(namespace), ready.encode())
        self._manifests[namespace] = ready

    async def delete(self, namespace: str, made_before_ms: int) -> None:
        """Forgets a deleted namespace's shards; a manifest made later belongs to a new namespace of the name."""
        try:
            manifest = await self._look(namespace)
            is_older = manifest is not None and manifest.created_at_ms <= made_before_ms
        except BrokenManifestError as error:
            # Nobody can follow it, and it would keep the deletion from its end and the name from a new manifest.
            log.warning("a damaged shard manifest is removed", extra={"namespace": namespace, "reason": error.message})
            is_older = True
        if is_older:
            await self._store.delete(manifest_key(namespace))
            self._manifests.pop(namespace, None)
