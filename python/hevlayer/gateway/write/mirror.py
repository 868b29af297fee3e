"""What a write tells the document cache, before and after the upstream's answer."""

from collections.abc import Sequence
from typing import Protocol

from hevlayer.gateway.consistency import Outcome

Token = object
"""Whatever the cache needs to find a begun write again."""


class WriteMirror(Protocol):
    """Never raises and never takes longer than the cache's own deadline: the cache is soft.

    From `begin_write` until `settle` no read may keep a row of these keys. A whole-namespace write (`keys` None)
    touches rows that nobody can name; its namespace's records are void once it may have taken effect.
    """

    async def begin_write(self, namespace: str, keys: Sequence[bytes] | None) -> Token: ...

    async def settle(self, token: Token, outcome: Outcome) -> None: ...

    async def bump_epoch(self, namespace: str) -> None:
        """Everything held of the namespace is void."""


class NoMirror:
    """For a gateway without a document cache."""

    async def begin_write(self, namespace: str, keys: Sequence[bytes] | None) -> Token:
        return None

    async def settle(self, token: Token, outcome: Outcome) -> None:
        return None

    async def bump_epoch(self, namespace: str) -> None:
        return None
