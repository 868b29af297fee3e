"""An Aerospike node behind a proxy: a real one when `AEROSPIKE_HOSTS` names it, else the stand-in."""

from collections.abc import AsyncIterator

import pytest
from aerospike_bench import AEROSPIKE_HOSTS, Bench

from hevlayer.testing.aerospike_stand_in import StandIn
from hevlayer.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def bench(clock: FakeClock) -> AsyncIterator[Bench]:
    made = Bench(clock)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
def stand_in(bench: Bench) -> StandIn:
    """For what a real server cannot be made to do from outside."""
    if bench.stand_in is None:
        pytest.skip(f"{AEROSPIKE_HOSTS} is a real server, which has no switch for this")
    return bench.stand_in
