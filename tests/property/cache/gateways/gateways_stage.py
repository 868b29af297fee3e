"""Two gateways over one document cache and one local origin, all in this process."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from hevlayer.clock import SystemClock
from hevlayer.gateway.access_log import AccessLog
from hevlayer.gateway.app import Gateway
from hevlayer.gateway.config import GatewayConfig
from hevlayer.http.client import HttpClient, Origin
from hevlayer.origin.config import OriginConfig
from hevlayer.origin.faults import FaultConfig, decode_faults
from hevlayer.origin.process import RunningOrigin, start_origin
from hevlayer.testing.doccache_twin import TwinEngine, TwinStore

KEY = "layer_test_key"
NAMESPACE = "films"
POLL_SECONDS = 0.02
UNKNOWN_SECONDS = 1.0
WRITE_SECONDS = 0.25
WAIT_SECONDS = 10.0
Row = dict[str, Any]


def faults(rules: list[Row], seed: int) -> FaultConfig:
    return decode_faults(json.dumps({"rules": rules, "seed": seed}).encode())


class Caller:
    """JSON to one gateway, or to the origin."""

    def __init__(self, url: str, bearer: str) -> None:
        self._client = HttpClient(Origin.parse(url), None, SystemClock())
        self._headers = [
            (b"authorization", f"Bearer {bearer}".encode()),
            (b"content-type", b"application/json"),
        ]

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[bytes, bytes], Any]:
        """Status, headers, decoded body. Raises: HttpClientError."""
        text = b"" if body is None else json.dumps(body).encode()
        answer = await self._client.request(method, path.encode(), self._headers, text)
        content = await answer.read(16 << 20)
        try:
            decoded = json.loads(content) if content else None
        except ValueError:
            decoded = content
        return answer.status, dict(answer.headers), decoded

    async def write(self, body: Row, namespace: str = NAMESPACE) -> tuple[int, Any]:
        status, _, answer = await self.call("POST", f"/v2/namespaces/{namespace}", body)
        return status, answer

    async def fetch(self, name: object, namespace: str = NAMESPACE) -> tuple[str, Row | None]:
        """Where the answer came from, and the document's attributes."""
        status, headers, answer = await self.call("GET", f"/v2/namespaces/{namespace}/documents/{name}")
        assert status in (200, 404), (status, answer)
        return headers.get(b"x-layer-cache", b"").decode(), answer["attributes"] if status == 200 else None

    async def close(self) -> None:
        await self._client.close()


class Stage:
    def __init__(self, gateways: list[Gateway], callers: list[Caller], origin: Caller, upstream: RunningOrigin) -> None:
        self.gateways = gateways
        self.callers = callers
        self.origin = origin
        self._upstream = upstream

    def carries_out(self, since: float) -> bool:
        """Whether the origin is still at a request that reached it before then, in the loop's seconds.

        On a busy machine that can be long after whoever sent it gave it up.
        """
        oldest = self._upstream.oldest_begun
        return oldest is not None and oldest <= since

    async def polled(self, namespace: str = NAMESPACE) -> None:
        """Until every gateway has heard of the namespace's schema in polls that begin from now on, and until it has
        noted the cache's present epoch: the first write in an epoch does that."""
        for gateway in self.gateways:
            seen: set[int] = set()
            async with asyncio.timeout(WAIT_SECONDS):
                while len(seen) < 3:
                    for entry in gateway.registry:
                        if entry.namespace == namespace and entry.view.polled_at_ms is not None:
                            gateway.registry.touch(namespace, entry.scope)
                            seen.add(entry.view.polled_at_ms)
                    await asyncio.sleep(POLL_SECONDS / 4)


@asynccontextmanager
async def staged(
    folder: Path,
    *,
    engine: str = "twin",
    rules: FaultConfig | None = None,
    gateways: int = 2,
    trusted: bool = True,
    control: bool = False,
    **settings: Any,
) -> AsyncIterator[Stage]:
    """`engine` is `twin`, or `embedded`: then the gateways share a directory. `control`: the origin's faults can be
    changed while it runs."""
    clock = SystemClock()
    store = TwinStore(clock, unknown_write_seconds=UNKNOWN_SECONDS)
    async with AsyncExitStack() as stack:
        origin = await start_origin(
            OriginConfig(folder / "origin", port=0, control=control, faults=rules or FaultConfig())
        )
        stack.push_async_callback(origin.close)
        made, callers = [], []
        for number in range(gateways):
            keys = {"gateway_api_key": KEY, "turbopuffer_api_key": "tpuf_test"} if trusted else {}
            config = GatewayConfig(
                **{
                    "port": 0,
                    "upstream_url": origin.url,
                    "data_dir": folder / f"gateway-{number}",
                    "cache_dir": folder / "cache",
                    "spool_dir": folder / "spool",
                    "drain_seconds": 5.0,
                    "consistency_poll_interval_ms": int(POLL_SECONDS * 1000),
                    "unknown_write_seconds": UNKNOWN_SECONDS,
                    "write_timeout_seconds": WRITE_SECONDS,
                    **keys,
                    **settings,
                }
            ).check()
            log = AccessLog(9, lambda _descriptor, data: len(data))
            gateway = Gateway(config, access_log=log, cache_engine=TwinEngine(store) if engine == "twin" else None)
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            caller = Caller(f"http://127.0.0.1:{gateway.port}", KEY if trusted else "tpuf_caller_secret")
            stack.push_async_callback(caller.close)
            made.append(gateway)
            callers.append(caller)
        around = Caller(origin.url, "tpuf_test")
        stack.push_async_callback(around.close)
        yield Stage(made, callers, around, origin)
