"""Who may use the cached rows of a name that several organisations use."""

import asyncio

from hevlayer.gateway.fetch.owners import OWNED_SECONDS, CacheOwners
from hevlayer.stores.objects import LocalObjects, ObjectStoreError
from hevlayer.testing.clock import FakeClock


class Epochs:
    def __init__(self):
        self.voided = []

    async def new_epoch(self, namespace):
        await asyncio.sleep(0)
        self.voided.append(namespace)


class Broken:
    async def get(self, key):
        raise ObjectStoreError("broken")


async def test_the_first_owner_keeps_its_place_while_it_uses_it(tmp_path):
    clock, epochs = FakeClock(), Epochs()
    owners = CacheOwners(epochs, LocalObjects(tmp_path), clock)
    assert await owners.admit("n", "x")
    clock.move(OWNED_SECONDS - 1)
    assert not await owners.admit("n", "y")
    assert await owners.admit("n", "x")
    clock.move(OWNED_SECONDS - 1)
    assert not await owners.admit("n", "y")
    assert epochs.voided == ["n"]
    clock.move(1)
    assert await owners.admit("n", "y")
    assert epochs.voided == ["n", "n"]
    assert not await owners.admit("n", "x")


async def test_of_two_at_once_one_is_admitted(tmp_path):
    owners = CacheOwners(Epochs(), LocalObjects(tmp_path), FakeClock())
    assert sorted(await asyncio.gather(*(owners.admit("n", each) for each in "xyx"))) == [False, True, True]


async def test_a_restart_knows_the_owner(tmp_path):
    assert await CacheOwners(Epochs(), LocalObjects(tmp_path), FakeClock()).admit("n/..", "x")
    epochs = Epochs()
    assert await CacheOwners(epochs, LocalObjects(tmp_path), FakeClock()).admit("n/..", "x")
    assert epochs.voided == []
    assert await CacheOwners(epochs, LocalObjects(tmp_path), FakeClock()).admit("n/..", "y")
    assert epochs.voided == ["n/.."]


async def test_nobody_is_admitted_without_an_identity_or_when_ownership_cannot_be_kept(tmp_path):
    assert not await CacheOwners(Epochs(), LocalObjects(tmp_path), FakeClock()).admit("n", None)
    assert not await CacheOwners(Epochs(), Broken(), FakeClock()).admit("n", "x")


class Stuck(LocalObjects):
    """Its first put is answered too late: it happens when `late` is called."""

    late = None

    async def put(self, key, body):
        if self.late is None:
            self.late = lambda: LocalObjects.put(self, key, body)
            raise ObjectStoreError("too slow")
        await super().put(key, body)


async def test_an_owner_that_may_yet_be_written_gives_its_place_to_nobody_else(tmp_path):
    store, epochs, clock = Stuck(tmp_path), Epochs(), FakeClock()
    owners = CacheOwners(epochs, store, clock)
    assert not await owners.admit("n", "x")
    clock.move(OWNED_SECONDS + 1)
    assert not await owners.admit("n", "y")
    await store.late()
    assert await owners.admit("n", "x")
    clock.move(OWNED_SECONDS + 1)
    assert await owners.admit("n", "y")
