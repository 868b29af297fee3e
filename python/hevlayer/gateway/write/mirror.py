"""What a write tells the document cache, before and after the upstream's answer."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from hevlayer.gateway.consistency import Outcome
from hevlayer.gateway.write.effect import UNTOLD, Acknowledged, Effects
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

    @property
    def wants_affected(self) -> bool:
        """Whether it is worth asking the upstream which rows a write has changed."""

    async def begin_write(self, namespace: str, keys: Sequence[bytes] | None, seconds: float) -> Any: ...

    async def settle(self, token: Any, outcome: Outcome, write: Acknowledged | None = None) -> None:
        """`write` is what is known of an acknowledged one."""


class CacheMirror:
    """Keeps the document cache true to the writes of this process."""

    def __init__(self, cache: DocumentCache, now_ms: Callable[[], int]) -> None:
        """`now_ms`: see `SchemasByEpoch`."""
        self._cache = cache
        self._effects = Effects(cache, now_ms)

    @property
    def wants_affected(self) -> bool:
        return self._cache.enabled

    async def begin_write(self, namespace: str, keys: Sequence[bytes] | None, seconds: float) -> WriteToken:
        return await self._cache.begin_write(namespace, keys, seconds)

    async def settle(self, token: WriteToken, outcome: Outcome, write: Acknowledged | None = None) -> None:
        effect = UNTOLD
        if outcome is Outcome.OK and write is not None:
            effect = await self._effects.tell(token, write)
        await self._cache.settle(
            token, _OUTCOMES[outcome], changed=effect.changed, rows=effect.rows, deleted=effect.deleted
        )
