"""A node, a proxy in front of it, and engines that reach it through the proxy."""

import asyncio
import os
import secrets
from collections.abc import Awaitable

import orjson
import pytest
from aerospike_proxy import Proxy, info

from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.stores.doccache_aerospike import SCAN_BYTES_MAX, AerospikeEngine, AerospikeSettings
from hevlayer.testing.aerospike_stand_in import StandIn
from hevlayer.testing.clock import FakeClock

AEROSPIKE_HOSTS = os.environ.get("AEROSPIKE_HOSTS", "")
AEROSPIKE_NAMESPACE = os.environ.get("AEROSPIKE_NAMESPACE", "test")
DEFAULT_PORT = 3000
UNKNOWN_SECONDS = 120.0
TTL_SECONDS = 1_000.0
TIMEOUT_SECONDS = 1.0
# Nothing here takes so long unless something hangs that must not.
PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.05
EVERYTHING_SUFFIX = "-all"
PLAIN = DocProjection()
KEY = b"\x02a"
MARK_SECONDS = 600.0


def rows(name: str = "a", t: int = 1) -> DocRows:
    return DocRows(orjson.dumps({"rows": [{"id": name, "t": t}]}), [])


def document(name: str = "a", t: int = 1) -> bytes:
    return orjson.dumps({"id": name, "attributes": {"t": t}})


class Bench:
    """The proxy is `proxy`; `stand_in` is None in front of a real server."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        # A server never gives a set back, so tests are kept apart by whose rows they are.
        self.prefix = "hevlayer-test"
        self.identity = secrets.token_hex(8)
        self.stand_in: StandIn | None = None
        self.engines: list[AerospikeEngine] = []
        self._node = ("", 0)

    async def start(self) -> None:
        first = AEROSPIKE_HOSTS.partition(",")[0]
        if not first:
            self.stand_in = StandIn(AEROSPIKE_NAMESPACE)
            await self.stand_in.start()
            first = self.stand_in.address
        host, _, port = first.partition(":")
        self._node = (host, int(port or DEFAULT_PORT))
        if "[]" not in await self.info("peers-clear-std"):
            pytest.skip("the cluster has several nodes, and clients would go around a proxy in front of one")
        self.proxy = Proxy(*self._node)
        await self.proxy.start()

    async def stop(self) -> None:
        self.proxy.go_on()
        self.proxy.refuses = False
        for engine in self.engines:
            try:
                await engine.close()
            except CacheUnavailableError:
                continue
        await self.proxy.stop()
        if self.stand_in is not None:
            await self.stand_in.stop()

    async def info(self, command: str) -> str:
        """Straight to the node."""
        return await info(*self._node, command)

    async def open(
        self,
        *,
        connected: bool = True,
        timeout_seconds: float = TIMEOUT_SECONDS,
        scan_bytes_max: int = SCAN_BYTES_MAX,
    ) -> AerospikeEngine:
        """A gateway's engine, past the quiet time of a cluster that nobody has met."""
        engine = AerospikeEngine(
            AerospikeSettings(
                self.proxy.address,
                AEROSPIKE_NAMESPACE,
                self.prefix,
                connect_seconds=1.0,
                identity=self.identity,
                scan_bytes_max=scan_bytes_max,
            ),
            self.clock,
            ttl_seconds=TTL_SECONDS,
            timeout_seconds=timeout_seconds,
            unknown_write_seconds=UNKNOWN_SECONDS,
            clock_skew_seconds=0.0,
        )
        self.engines.append(engine)
        if connected:
            problem = await engine.connect()
            assert problem is None, problem
            if len(self.engines) == 1:
                await engine.begin_fill("anything")
                self.clock.move(UNKNOWN_SECONDS)
        return engine

    async def truncate(self) -> None:
        """Every record of the prefix goes, save for the one that is of all namespaces: the server forgot them alone."""
        listed = await self.info(f"sets/{AEROSPIKE_NAMESPACE}")
        if listed.startswith("ERROR"):
            listed = await self.info(f"sets:namespace={AEROSPIKE_NAMESPACE}")
        for line in listed.split(";"):
            facts = dict(each.split("=", 1) for each in line.split(":") if "=" in each)
            name = facts.get("set", "")
            if facts.get("objects") != "0" and name.startswith(self.prefix) and name != self.prefix + EVERYTHING_SUFFIX:
                assert await self.info(f"truncate:namespace={AEROSPIKE_NAMESPACE};set={name}") == "ok"


async def ticket(engine: AerospikeEngine, key: bytes = KEY) -> int:
    found = await engine.lookup("ns", key, PLAIN, None)
    assert isinstance(found, int), found
    assert found > 0, found
    return found


async def put(engine: AerospikeEngine, name: str = "a", t: int = 1) -> None:
    key = b"\x02" + name.encode()
    assert await engine.fill("ns", rows(name, t), [key], [await ticket(engine, key)]) == 1


async def look(engine: AerospikeEngine, name: str = "a") -> bytes | int:
    return await engine.lookup("ns", b"\x02" + name.encode(), PLAIN, None)


async def softly(call: Awaitable[object]) -> str | None:
    """Why a call failed; None: it did not. It ends in any case, and with the one error that it may have."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            await call
        except CacheUnavailableError as error:
            return str(error.fields["cause"]) if error.fields else error.message
    return None


async def recovered(engine: AerospikeEngine) -> None:
    """Waits until calls work again."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await softly(engine.facts("ns")) is not None:
            await asyncio.sleep(POLL_SECONDS)
