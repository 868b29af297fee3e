"""POST /v2/namespaces/{namespace}/init, and what metadata says of shards."""

from hevlayer.errors import ValidationError
from hevlayer.gateway.namespaces.exchange import Exchanges
from hevlayer.gateway.responses import json_response
from hevlayer.gateway.router import RouteContext
from hevlayer.gateway.shards.backfill import Backfill
from hevlayer.gateway.shards.directory import ShardDirectory
from hevlayer.gateway.shards.limits import SHARDS_MAX, SHARDS_MIN
from hevlayer.gateway.shards.manifest import ShardState
from hevlayer.http.messages import Response
from hevlayer.stores.turbopuffer import namespace_path
from hevlayer.wire.bodies import decode_body

INIT_BYTES_MAX = 64 * 1024
NOT_FOUND = 404


class ShardRoutes:
    """Makes namespaces sharded."""

    def __init__(self, exchanges: Exchanges, directory: ShardDirectory, backfill: Backfill) -> None:
        self._exchanges = exchanges
        self._directory = directory
        self._backfill = backfill

    async def init(self, context: RouteContext) -> Response:
        """Existing rows get their shards from a job; a namespace that has none yet is ready at once."""
        shard_count = read_init(await context.request.body.read(INIT_BYTES_MAX))
        # Also the proof that this bearer may use the name.
        target = namespace_path(context.namespace) + b"/metadata"
        answer = await self._exchanges.call(context, method="GET", target=target)
        if not answer.ok and answer.status != NOT_FOUND:
            return answer.relayed()
        if shard_count is not None:
            state = ShardState.BACKFILLING if answer.ok else ShardState.READY
            await self._directory.create(context.namespace, shard_count, state)
            self._backfill.wake()
        block = self.layer_block(context.namespace)
        return json_response(200, {"namespace": context.namespace, "layer": block})

    def layer_block(self, namespace: str) -> dict[str, object]:
        """The part of metadata's `layer` block that tells of shards."""
        manifest = self._directory.manifest(namespace)
        if manifest is None:
            return {"shard_count": 1, "shard_state": "unsharded", "scatter_gather_active": False}
        lag = 0 if manifest.state is ShardState.READY else self._backfill.lag_rows(namespace)
        block: dict[str, object] = {"shard_count": manifest.shard_count, "shard_state": manifest.state.value}
        if lag is not None:
            block["shard_lag_rows"] = lag
        return {**block, "scatter_gather_active": True}


def read_init(body: bytes) -> int | None:
    """The number of shards asked for. Raises: MalformedJsonError, ValidationError."""
    if not body.strip():
        return None
    read = decode_body(body)
    if not isinstance(read, dict):
        raise ValidationError("the body must be a JSON object")
    unknown = [key for key in read if key != "shard_count"]
    if unknown:
        raise ValidationError(f"{unknown[0][:80]}: not a key of this request; known is shard_count")
    count = read.get("shard_count")
    if count is None:
        return None
    if type(count) is not int or not SHARDS_MIN <= count <= SHARDS_MAX:
        raise ValidationError(f"shard_count: must be a whole number in {SHARDS_MIN}..{SHARDS_MAX}")
    return count
