"""`CacheOwners` for a cache that several gateways share: whose rows stand under a name is kept beside them.

The record of a namespace's owner is the note of another namespace, whose epoch changes with every claim: a note is
kept only in the epoch that it was made for, so no gateway renews what another one has taken away.

A gateway believes what it read for `HELD_SECONDS` and tells at least every `TOLD_SECONDS` that the owner is in use;
another owner has to wait until nobody has for `OWNED_SECONDS`, and until then some more for its own claim to be the
only one. An owner that is not known, because the server is new or lost it, counts as one that was just in use.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import orjson

from hevlayer.clock import Clock, SingleFlight
from hevlayer.errors import CacheUnavailableError
from hevlayer.gateway.fetch.reader import FACTS_MAX
from hevlayer.stores.doccache_engine import NamespaceFacts

# Together less than `OWNED_SECONDS`, by more than clocks of gateways may differ.
HELD_SECONDS = 20.0
TOLD_SECONDS = 20.0
OWNED_SECONDS = 60.0
# Claims that are made at one time have all been written, or refused, by then.
CLAIM_SECONDS = 10.0
# Longer identities have no place in a note.
IDENTITY_CHARACTERS_MAX = 500
NOBODY = ""


class Register(Protocol):
    """The part of an engine that is needed. Raises: CacheUnavailableError."""

    async def facts(self, namespace: str) -> NamespaceFacts: ...

    async def note(self, namespace: str, text: str, epoch: int, lost: int) -> bool: ...

    async def clear(self, namespace: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Owner:
    identity: str
    claimed_ms: int
    used_ms: int

    def text(self) -> str:
        return orjson.dumps([self.identity, self.claimed_ms, self.used_ms]).decode()


class SharedOwners:
    """See `CacheOwners`; each gateway has one, over the engine that they share."""

    def __init__(self, register: Register, clock: Clock) -> None:
        self._register = register
        self._clock = clock
        self._seen: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._flights: SingleFlight[str, None] = SingleFlight()

    async def admit(self, namespace: str, identity: str | None) -> bool:
        """Whether the cached rows of `namespace` are those of the namespace with this identity."""
        if not identity or len(identity) > IDENTITY_CHARACTERS_MAX:
            return False
        owner = self._owner(namespace)
        if owner is None:
            await self._flights.run(namespace, lambda: self._look(namespace, identity))
            owner = self._owner(namespace)
        return owner == identity

    def holds(self, namespace: str, identity: str | None) -> bool:
        """Whether an identity that was admitted is believed to be the owner still."""
        return identity is not None and self._owner(namespace) == identity

    def release(self, namespace: str) -> None:
        """Stops to tell others that the owner is in use. They may look up its rows still, so that another one waits."""
        self._seen.pop(namespace, None)

    def _owner(self, namespace: str) -> str | None:
        owner, until = self._seen.get(namespace, (None, 0.0))
        return owner if self._clock.monotonic() < until else None

    async def _look(self, namespace: str, identity: str) -> None:
        began, now_ms = self._clock.monotonic(), self._clock.now_ms()
        record = f"owner/{namespace}"
        try:
            facts = await self._register.facts(record)
            owner = _read(facts.note)
            if owner is None:
                await self._claim(record, _Owner(NOBODY, now_ms, now_ms))
            elif owner.identity != identity:
                if now_ms >= owner.used_ms + OWNED_SECONDS * 1000:
                    # Before the new owner has a name there, or its rows would be those of the former one.
                    await self._register.clear(namespace)
                    await self._claim(record, _Owner(identity, now_ms, now_ms))
            elif now_ms >= owner.claimed_ms + CLAIM_SECONDS * 1000:
                if now_ms >= owner.used_ms + TOLD_SECONDS * 1000:
                    told = _Owner(identity, owner.claimed_ms, now_ms)
                    if not await self._register.note(record, told.text(), facts.epoch, facts.lost):
                        return
                self._believe(namespace, identity, began + HELD_SECONDS)
        except CacheUnavailableError:
            return

    async def _claim(self, record: str, owner: _Owner) -> None:
        await self._register.clear(record)
        facts = await self._register.facts(record)
        if not facts.note:
            await self._register.note(record, owner.text(), facts.epoch, facts.lost)

    def _believe(self, namespace: str, identity: str, until: float) -> None:
        self._seen[namespace] = (identity, until)
        self._seen.move_to_end(namespace)
        if len(self._seen) > FACTS_MAX:
            self._seen.popitem(last=False)


def _read(note: str) -> _Owner | None:
    try:
        identity, claimed_ms, used_ms = orjson.loads(note)
        return _Owner(identity, claimed_ms, used_ms)
    except (ValueError, TypeError):
        return None
