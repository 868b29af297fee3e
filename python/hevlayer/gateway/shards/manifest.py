"""What is kept of a sharded namespace in the object store: how many shards, and whether its rows all carry theirs."""

from enum import Enum
from typing import NamedTuple

import orjson

from hevlayer.errors import ServiceUnavailableError, Source
from hevlayer.gateway.shards.limits import SHARDS_MAX, SHARDS_MIN
from hevlayer.wire.names import decode_name, object_key

PREFIX = "shards/"
_NAME = "manifest.json"


class ShardState(Enum):
    """`READY`: every row carries its shard, as far as the gateway has written or patched it."""

    BACKFILLING = "backfilling"
    READY = "ready"


class BrokenManifestError(ServiceUnavailableError):
    """A manifest that this version cannot read."""

    source = Source.STORE


class Manifest(NamedTuple):
    shard_count: int
    state: ShardState
    created_at_ms: int

    def encode(self) -> bytes:
        return orjson.dumps(
            {"shard_count": self.shard_count, "state": self.state.value, "created_at_ms": self.created_at_ms}
        )


def read_manifest(body: bytes) -> Manifest:
    """Raises: BrokenManifestError."""
    try:
        read = orjson.loads(body)
        count, created = read["shard_count"], read["created_at_ms"]
        manifest = Manifest(count, ShardState(read["state"]), created)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise BrokenManifestError("a shard manifest in the object store cannot be read") from error
    if not isinstance(count, int) or not SHARDS_MIN <= count <= SHARDS_MAX or not isinstance(created, int):
        raise BrokenManifestError("a shard manifest in the object store has values out of range")
    return manifest


def manifest_key(namespace: str) -> str:
    return object_key("shards", namespace, _NAME)


def namespace_of(key: str) -> str | None:
    """Whose manifest a key is; None for another key."""
    parts = key.split("/")
    if len(parts) != 3 or parts[2] != _NAME:
        return None
    return decode_name(parts[1])
