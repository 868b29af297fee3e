"""Bodies of the latest snapshots in the document cache: copies near by, known by their keys, proved by their hashes."""

from collections.abc import Sequence
from typing import Protocol

import orjson

from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.stores.doccache import Batch
from hevlayer.stores.doccache_engine import Ticket

# No namespace of the upstream's has such a name.
MIRROR_NAMESPACE = "\0snapshots"
# A row of the document cache is not meant to be larger.
MIRRORED_BYTES_MAX = 4 << 20
_BODY = "body"
_STRING_TAG = b"\x02"
_PLAIN = DocProjection()


class RowCache(Protocol):
    """The part of the document cache that the mirror needs."""

    async def lookup_many(self, namespace: str, keys: Sequence[bytes], projection: DocProjection) -> Batch: ...

    async def fill(self, namespace: str, keys: Sequence[bytes], tickets: Sequence[Ticket], rows: DocRows) -> None: ...


class Mirror:
    """Soft: what fails is not kept, and a body that is not there is read from the object store."""

    def __init__(self, cache: RowCache) -> None:
        self._cache = cache

    async def get(self, key: str) -> bytes | None:
        """The body under an object key."""
        found = (await self._look(key)).documents[0]
        if found is None:
            return None
        body = orjson.loads(found)["attributes"].get(_BODY)
        return body.encode() if isinstance(body, str) else None

    async def put(self, key: str, body: bytes) -> None:
        if len(body) > MIRRORED_BYTES_MAX:
            return
        looked = await self._look(key)
        if looked.documents[0] is not None or not looked.tickets[0]:
            return
        answer = orjson.dumps({"rows": [{"id": key, _BODY: body.decode()}]})
        await self._cache.fill(MIRROR_NAMESPACE, [_row_key(key)], looked.tickets, DocRows(answer, []))

    async def _look(self, key: str) -> Batch:
        return await self._cache.lookup_many(MIRROR_NAMESPACE, [_row_key(key)], _PLAIN)


def _row_key(key: str) -> bytes:
    return _STRING_TAG + key.encode()
