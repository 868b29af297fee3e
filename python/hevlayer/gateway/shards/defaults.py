"""`LAYER_SHARD_COUNT`: a namespace's first write makes it sharded."""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from hevlayer.clock import Clock
from hevlayer.errors import LayerError
from hevlayer.gateway.shards.directory import ShardDirectory
from hevlayer.gateway.shards.manifest import ShardState

# A namespace that was there stays unsharded; a deleted one may come again.
EXISTING_SECONDS = 60.0
EXISTING_MAX = 10_000
NOT_FOUND = 404

MetadataRead = Callable[[str, bytes | None], Awaitable[tuple[int, bytes]]]
"""One metadata read: (namespace, bearer) to (status, body). Raises: UpstreamError."""

log = logging.getLogger("hevlayer.shards")


class WriteShards:
    """The number of shards that a write stamps its rows for."""

    def __init__(self, directory: ShardDirectory, metadata: MetadataRead, clock: Clock, *, default: int = 1) -> None:
        self._directory = directory
        self._metadata = metadata
        self._now = clock.monotonic
        self._default = default
        self._existing: OrderedDict[str, float] = OrderedDict()

    async def shard_count(self, namespace: str, bearer: bytes | None) -> int | None:
        """None for a namespace that is not sharded. A namespace that does not exist yet gets the default; when that
        cannot be found out or kept, the write goes on without."""
        manifest = self._directory.manifest(namespace)
        if manifest is not None:
            return manifest.shard_count
        if self._default == 1 or self._existing.get(namespace, 0.0) > self._now():
            return None
        try:
            status, _ = await self._metadata(namespace, bearer)
            if status == NOT_FOUND:
                return (await self._directory.create(namespace, self._default, ShardState.READY)).shard_count
        except LayerError as error:
            log.warning("a new namespace is not sharded", extra={"namespace": namespace, "reason": error.message})
            return None
        self._existing[namespace] = self._now() + EXISTING_SECONDS
        self._existing.move_to_end(namespace)
        if len(self._existing) > EXISTING_MAX:
            self._existing.popitem(last=False)
        return None
