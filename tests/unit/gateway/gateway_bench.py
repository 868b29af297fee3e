"""A gateway in front of a recording upstream, both on sockets of this process."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hevlayer.clock import SystemClock
from hevlayer.gateway.access_log import AccessLog
from hevlayer.gateway.app import Gateway
from hevlayer.gateway.config import GatewayConfig
from hevlayer.gateway.consistency import NamespaceView, SchemaFacts, Status
from hevlayer.http.client import ClientResponse, HttpClient, Origin
from hevlayer.http.messages import Headers
from hevlayer.testing.recording import RecordingUpstream

STAMPED = SchemaFacts(stamped=True)
BEARER = (b"authorization", b"Bearer tpuf_caller_secret")


@dataclass
class Bench:
    """One gateway, its upstream and a client."""

    upstream: RecordingUpstream
    gateway: Gateway
    client: HttpClient
    log_lines: bytearray = field(default_factory=bytearray)
    records: list[bytes] = field(default_factory=list)
    """Lines of history without their times, for whoever keeps them."""

    async def call(
        self, method: str, target: str, body: bytes = b"", headers: Headers | None = None, **options: Any
    ) -> ClientResponse:
        sent = [BEARER] if headers is None else headers
        return await self.client.request(method, target.encode(), sent, body, **options)

    def see(
        self,
        namespace: str,
        status: Status = Status.STABLE,
        watermark_ms: int | None = None,
        schema: SchemaFacts = STAMPED,
    ) -> None:
        """Lets the gateway know a namespace as a poll would, for the default caller and for one without a bearer."""
        registry, authenticator = self.gateway.registry, self.gateway.authenticator
        callers: list[Headers] = [[BEARER], []]
        scopes = [authenticator.authenticate(each).scope for each in callers] if authenticator.passes_through else [b""]
        for scope in scopes:
            registry.touch(namespace, scope)
        for entry in registry:
            if entry.namespace == namespace:
                entry.view = NamespaceView(status=status, watermark_ms=watermark_ms, polled_at_ms=1, schema=schema)

    @property
    def access_log(self) -> bytes:
        self.gateway.access_log.flush()
        assert self.gateway.access_log.settle(10.0)
        return bytes(self.log_lines)


async def eventually(condition: Callable[[], bool]) -> None:
    """Until a condition holds that nothing announces. Raises: TimeoutError."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- nothing to wait for but the state itself
            await asyncio.sleep(0.001)


async def _never() -> None:
    await asyncio.Event().wait()


@dataclass
class Benches:
    """Makes benches and takes them down."""

    folder: Path
    made: list[Bench] = field(default_factory=list)
    upstreams: list[RecordingUpstream] = field(default_factory=list)

    async def __call__(
        self, *, watched: bool = False, mirror: Any = None, rng: Any = None, trail: Any = None, **settings: Any
    ) -> Bench:
        upstream = RecordingUpstream()
        await upstream.__aenter__()
        self.upstreams.append(upstream)
        lines = bytearray()

        def write(_descriptor: int, data: bytes) -> int:
            lines.extend(data)
            return len(data)

        path = settings.pop("path", "")
        config = GatewayConfig(
            **{
                "port": 0,
                "upstream_url": upstream.url + path,
                "data_dir": self.folder / f"data-{len(self.upstreams)}",
                "spool_dir": self.folder / "spool",
                "drain_seconds": 5.0,
                **settings,
            }
        ).check()
        gateway = Gateway(config, access_log=AccessLog(9, write), mirror=mirror, rng=rng, trail=trail)
        if not watched:
            # Polls would stand among the recorded requests.
            gateway.watcher.run = _never  # type: ignore[method-assign]
        await gateway.start()
        client = HttpClient(Origin.parse(f"http://127.0.0.1:{gateway.port}"), None, SystemClock())
        bench = Bench(upstream, gateway, client, lines)
        self.made.append(bench)
        return bench

    async def close(self) -> None:
        for bench in self.made:
            await bench.client.close()
            await bench.gateway.stop()
        for upstream in self.upstreams:
            await upstream.__aexit__(None, None, None)
