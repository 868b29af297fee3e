"""Engines under the contract suite. Another engine joins by adding its factory here."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cache_stage import TTL_SECONDS, UNKNOWN_SECONDS, OpenEngine

from hevlayer.stores.doccache_embedded import EmbeddedEngine
from hevlayer.stores.doccache_engine import Engine
from hevlayer.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["embedded"])
async def open_engine(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> AsyncIterator[OpenEngine]:
    """Opens the engine on one and the same storage at each call; the one before must be closed."""
    opened: list[Engine] = []

    async def open_embedded() -> Engine:
        engine = EmbeddedEngine.open(
            tmp_path / "cache",
            clock,
            upstream="https://upstream",
            ttl_seconds=TTL_SECONDS,
            timeout_seconds=30.0,
            unknown_write_seconds=UNKNOWN_SECONDS,
        )
        opened.append(engine)
        return engine

    yield {"embedded": open_embedded}[request.param]
    for engine in opened:
        await engine.close()


@pytest.fixture
async def engine(open_engine: OpenEngine) -> Engine:
    return await open_engine()
