"""The engines under the contract suite of the document cache. Another engine joins by adding its stage here."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from hevlayer.stores.doccache_embedded import EmbeddedEngine
from hevlayer.stores.doccache_engine import Engine
from hevlayer.testing.clock import FakeClock
from hevlayer.testing.doccache_twin import TwinEngine, TwinStore

UNKNOWN_SECONDS = 120.0
TTL_SECONDS = 1_000.0
CAPACITY_BYTES = 64 << 20


class Stage:
    """One storage. `lacks` names what the engine does not do yet; tests that need it are left out."""

    lacks: frozenset[str] = frozenset()
    durable = True
    """Whether rows outlive a restart of every gateway."""

    def __init__(self, directory: Path, clock: FakeClock) -> None:
        self.directory = directory
        self.clock = clock
        self.engines: list[Engine] = []

    async def open(self) -> Engine:
        """Another gateway's engine on the same storage."""
        engine = await self.make()
        self.engines.append(engine)
        return engine

    async def make(self) -> Engine:
        raise AssertionError("each stage makes its own")

    async def close(self) -> None:
        for engine in self.engines:
            await engine.close()


class TwinStage(Stage):
    durable = True

    def __init__(self, directory: Path, clock: FakeClock) -> None:
        super().__init__(directory, clock)
        self.store = TwinStore(clock, ttl_seconds=TTL_SECONDS, unknown_write_seconds=UNKNOWN_SECONDS)

    async def make(self) -> Engine:
        return TwinEngine(self.store)


class EmbeddedStage(Stage):
    lacks = frozenset({"several", "rows", "changed", "owners", "expiry", "limit", "page", "holes"})

    async def make(self) -> Engine:
        return EmbeddedEngine.open(
            self.directory / "cache",
            self.clock,
            upstream="https://upstream",
            capacity_bytes=CAPACITY_BYTES,
            ttl_seconds=TTL_SECONDS,
            timeout_seconds=30.0,
            unknown_write_seconds=UNKNOWN_SECONDS,
        )


STAGES: dict[str, Callable[[Path, FakeClock], Stage]] = {"twin": TwinStage, "embedded": EmbeddedStage}
AEROSPIKE_HOSTS = os.environ.get("AEROSPIKE_HOSTS", "")


@asynccontextmanager
async def _opened(name: str, directory: Path, clock: FakeClock) -> AsyncIterator[Stage]:
    stage = STAGES[name](directory, clock)
    try:
        yield stage
    finally:
        await stage.close()


def opened(name: str, directory: Path, clock: FakeClock) -> AbstractAsyncContextManager[Stage]:
    """A stage by its name, closed at the end."""
    return _opened(name, directory, clock)
