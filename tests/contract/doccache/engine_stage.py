"""The engines under the contract suite of the document cache. Another engine joins by adding its stage here."""

import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from hevlayer.stores.doccache_aerospike import AerospikeEngine, AerospikeSettings
from hevlayer.stores.doccache_embedded import EmbeddedEngine
from hevlayer.stores.doccache_engine import Engine
from hevlayer.testing.aerospike_stand_in import StandIn
from hevlayer.testing.clock import FakeClock
from hevlayer.testing.doccache_twin import TwinEngine, TwinStore

UNKNOWN_SECONDS = 120.0
TTL_SECONDS = 1_000.0
CAPACITY_BYTES = 64 << 20
TIMEOUT_SECONDS = 30.0
AEROSPIKE_HOSTS = os.environ.get("AEROSPIKE_HOSTS", "")


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

    async def die(self, engine: Engine, owner: int) -> None:
        """A gateway ends without taking back what it owed."""
        await engine.close()

    async def forget(self) -> Engine:
        """What is kept is lost, open writes as well. Returns: an engine on what is left."""
        raise AssertionError("each stage forgets in its own way")

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

    async def die(self, engine: Engine, owner: int) -> None:
        await super().die(engine, owner)
        self.store.crash(owner)

    async def forget(self) -> Engine:
        self.store.forget()
        return await self.open()


class EmbeddedStage(Stage):
    async def make(self) -> Engine:
        return EmbeddedEngine.open(
            self.directory / "cache",
            self.clock,
            upstream="https://upstream",
            capacity_bytes=CAPACITY_BYTES,
            ttl_seconds=TTL_SECONDS,
            timeout_seconds=TIMEOUT_SECONDS,
            unknown_write_seconds=UNKNOWN_SECONDS,
        )

    async def forget(self) -> Engine:
        await self.close()
        index = self.directory / "cache" / "data.mdb"
        index.write_bytes(index.read_bytes()[: index.stat().st_size // 3])
        return await self.open()


class AerospikeStage(Stage):
    """A real server when `AEROSPIKE_HOSTS` names one, else the stand-in; each test's rows are of another upstream."""

    # What its server forgets is in `tests/service/aerospike`.
    lacks = frozenset({"now", "forget"})

    def __init__(self, directory: Path, clock: FakeClock) -> None:
        super().__init__(directory, clock)
        self.identity = secrets.token_hex(8)
        self.stand_in: StandIn | None = None

    async def make(self) -> Engine:
        hosts, namespace = AEROSPIKE_HOSTS, os.environ.get("AEROSPIKE_NAMESPACE", "test")
        if not hosts:
            if self.stand_in is None:
                self.stand_in = StandIn(namespace)
                await self.stand_in.start()
            hosts = self.stand_in.address
        settings = AerospikeSettings(hosts, namespace, "hevlayer-test", identity=self.identity)
        engine = AerospikeEngine(
            settings,
            self.clock,
            ttl_seconds=TTL_SECONDS,
            timeout_seconds=TIMEOUT_SECONDS,
            unknown_write_seconds=UNKNOWN_SECONDS,
            clock_skew_seconds=0.0,
        )
        problem = await engine.connect()
        assert problem is None, problem
        if not self.engines:
            # A server that nobody has met yet may have forgotten marks: nothing is filled at first.
            assert await engine.begin_fill("anything") == 0
            self.clock.move(UNKNOWN_SECONDS)
        return engine

    async def close(self) -> None:
        await super().close()
        if self.stand_in is not None:
            await self.stand_in.stop()


STAGES: dict[str, Callable[[Path, FakeClock], Stage]] = {
    "twin": TwinStage,
    "embedded": EmbeddedStage,
    "aerospike": AerospikeStage,
}


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
