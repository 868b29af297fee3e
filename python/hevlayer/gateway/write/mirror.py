"""What a write tells the document cache, before and after the upstream's answer."""

from collections.abc import Sequence
from typing import Any, Protocol

from hevlayer.gateway.consistency import Outcome
from hevlayer.stores.doccache import DocumentCache, WriteOutcome, WriteToken

_OUTCOMES = {
    Outcome.OK: WriteOutcome.APPLIED,
    Outcome.REFUSED: WriteOutcome.REFUSED,
    Outcome.UNKNOWN: WriteOutcome.UNKNOWN,
}


class WriteMirror(Protocol):
    """Never raises and never takes longer than the cache's own deadline: the cache is soft.

    From `begin_write` until `settle` no read may keep a row of these keys. A whole-namespace write (`keys` None)
    touches rows that nobody can name; its namespace's records are void once it may have taken effect. The token is
    whatever the mirror needs to find the write again; the write has an outcome, if only UNKNOWN, within `seconds`.
    """

    async def begin_write(self, namespace: str, keys: Sequence[bytes] | None, seconds: float) -> Any: ...

    async def settle(self, token: Any, outcome: Outcome) -> None: ...


class CacheMirror:
    """Keeps the document cache true to the writes of this process."""

    def __init__(self, cache: DocumentCache) -> None:
        self._cache = cache

    async def begin_write(self, namespace: str, keys: Sequence[bytes] | None, seconds: float) -> WriteToken:
        return await self._cache.begin_write(namespace, keys, seconds)

    async def settle(self, token: WriteToken, outcome: Outcome) -> None:
        await self._cache.settle(token, _OUTCOMES[outcome])
