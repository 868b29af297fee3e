"""Two gateways, one cache, callers of several organisations."""

import pytest

from hevlayer.errors import CacheUnavailableError
from hevlayer.gateway.fetch.shared_owners import (
    CLAIM_SECONDS,
    HELD_SECONDS,
    IDENTITY_CHARACTERS_MAX,
    OWNED_SECONDS,
    TOLD_SECONDS,
    SharedOwners,
)
from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.testing.clock import FakeClock
from hevlayer.testing.doccache_twin import TwinEngine, TwinStore

A, B = "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"
KEY = b"\x02a"


class Stage:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = TwinStore(self.clock)
        self.engine = TwinEngine(self.store)
        self.here = self.gateway()
        self.there = self.gateway()

    def gateway(self) -> SharedOwners:
        return SharedOwners(TwinEngine(self.store), self.clock)

    async def own(self, identity: str) -> None:
        """Until a caller of this identity is admitted, who tries all the time."""
        for _ in range(int(2 * OWNED_SECONDS)):
            if await self.here.admit("docs", identity):
                return
            self.clock.move(2.0)
        raise AssertionError("nobody was ever admitted")

    async def put(self) -> None:
        ticket = await self.engine.lookup("docs", KEY, DocProjection(), None)
        assert isinstance(ticket, int)
        assert await self.engine.fill("docs", DocRows(b'{"rows":[{"id":"a"}]}', []), [KEY], [ticket]) == 1

    async def has_row(self) -> bool:
        return isinstance(await self.engine.lookup("docs", KEY, DocProjection(), None), bytes)


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_nobody_is_admitted_to_rows_whose_owner_is_not_known(stage: Stage) -> None:
    await stage.put()
    assert not await stage.here.admit("docs", A)
    stage.clock.move(OWNED_SECONDS - 1)
    assert not await stage.here.admit("docs", A)
    assert await stage.has_row()
    stage.clock.move(1)
    assert not await stage.here.admit("docs", A)
    assert not await stage.has_row()
    stage.clock.move(CLAIM_SECONDS)
    assert await stage.here.admit("docs", A)
    assert await stage.there.admit("docs", A)


async def test_the_others_are_refused_by_every_gateway_as_long_as_one_uses_it(stage: Stage) -> None:
    await stage.own(A)
    for _ in range(20):
        stage.clock.move(10.0)
        assert await stage.here.admit("docs", A)
        assert not await stage.here.admit("docs", B)
        assert not await stage.there.admit("docs", B)


async def test_another_owner_begins_without_a_row_and_when_no_gateway_believes_in_the_former(stage: Stage) -> None:
    await stage.own(A)
    await stage.put()
    stage.clock.move(TOLD_SECONDS - 1)
    assert await stage.there.admit("docs", A)
    believed_until = stage.clock.monotonic() + HELD_SECONDS
    while not await stage.here.admit("docs", B):
        stage.clock.move(1.0)
        if not await stage.has_row():
            assert stage.clock.monotonic() > believed_until
    assert not await stage.has_row()
    assert not await stage.there.admit("docs", A)


async def test_of_claims_at_one_time_one_holds(stage: Stage) -> None:
    await stage.own(A)
    stage.clock.move(OWNED_SECONDS + HELD_SECONDS)
    assert not await stage.here.admit("docs", A) or not await stage.there.admit("docs", B)
    stage.clock.move(OWNED_SECONDS)
    first = stage.gateway()
    assert not await first.admit("docs", B)
    assert not await stage.there.admit("docs", A)
    stage.clock.move(CLAIM_SECONDS)
    admitted = [await first.admit("docs", B), await stage.there.admit("docs", A)]
    assert admitted == [True, False]


async def test_namespaces_are_apart_and_no_identity_is_nobody(stage: Stage) -> None:
    await stage.own(A)
    assert not await stage.here.admit("other", A)
    for nobody in (None, "", "x" * (IDENTITY_CHARACTERS_MAX + 1)):
        assert not await stage.here.admit("docs", nobody)


async def test_a_forgotten_owner_is_unknown_again(stage: Stage) -> None:
    await stage.own(A)
    await stage.engine.clear("owner/docs")
    assert await stage.here.admit("docs", A)
    stage.clock.move(HELD_SECONDS)
    assert not await stage.here.admit("docs", A)


async def test_a_cache_that_fails_admits_nobody(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.own(A)

    async def broken(*_: object) -> None:
        raise CacheUnavailableError("away")

    monkeypatch.setattr(TwinEngine, "facts", broken)
    stage.clock.move(HELD_SECONDS)
    assert not await stage.here.admit("docs", A)
