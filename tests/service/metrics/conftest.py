"""A real VictoriaMetrics that scrapes a real gateway before a real local origin."""

import asyncio
import json
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from hevlayer.clock import SystemClock
from hevlayer.gateway.app import Gateway
from hevlayer.gateway.config import GatewayConfig
from hevlayer.http.client import ClientConfig, HttpClient, Origin
from hevlayer.http.errors import HttpClientError
from hevlayer.origin.config import OriginConfig
from hevlayer.origin.process import start_origin

START_SECONDS_MAX = 60
SCRAPE_SECONDS = 1
JSON = (b"content-type", b"application/json")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class VictoriaMetrics:
    """One `victoria-metrics` process on a directory of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self._address = f"127.0.0.1:{port}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, target_port: int) -> None:
        binary = shutil.which("victoria-metrics")
        assert binary is not None, "victoria-metrics is not installed: run scripts/system_packages.sh victoria-metrics"
        scrapes = self.folder / "scrape.yml"
        scrape = {
            "job_name": "gateway",
            "scrape_interval": f"{SCRAPE_SECONDS}s",
            "static_configs": [{"targets": [f"127.0.0.1:{target_port}"]}],
        }
        scrapes.write_text(json.dumps({"scrape_configs": [scrape]}))
        with (self.folder / "victoria-metrics.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                binary,
                f"-storageDataPath={self.folder / 'data'}",
                f"-httpListenAddr={self._address}",
                f"-promscrape.config={scrapes}",
                # A sample can be asked for as soon as it is scraped, not half a minute later.
                "-search.latencyOffset=0s",
                "-memory.allowedBytes=200MB",
                stdout=log,
                stderr=log,
            )

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 20)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


@dataclass
class Stage:
    gateway: Gateway
    store: VictoriaMetrics
    client: HttpClient
    direct: HttpClient

    async def ask(self, method, target, value=None, headers=()):
        """One request to the gateway: (status, headers, decoded body)."""
        return await _ask(self.client, method, target, value, [(b"authorization", b"Bearer tpuf_x"), *headers])

    async def store_ask(self, target):
        """The same, past the gateway, to the metrics store."""
        return await _ask(self.direct, "GET", target, None, [])

    async def ready(self):
        """Waits until the store has scraped the gateway twice, which a rate needs."""
        async with asyncio.timeout(START_SECONDS_MAX):
            while True:
                try:
                    target = b"/api/v1/query?query=count_over_time(up%5B5m%5D)"
                    _, _, answer = await self.store_ask(target)
                    found = answer["data"]["result"]
                    if found and float(found[0]["value"][1]) >= 2:
                        return
                except HttpClientError:
                    pass
                await asyncio.sleep(0.1)


async def _ask(client, method, target, value, headers):
    body = b"" if value is None else value if isinstance(value, bytes) else orjson.dumps(value)
    if value is not None and not isinstance(value, bytes):
        headers = [*headers, JSON]
    answer = await client.request(method, target, headers, body)
    content = await answer.read(64 << 20)
    decoded = orjson.loads(content) if content[:1] in (b"{", b"[") else content
    return answer.status, dict(answer.headers), decoded


@pytest.fixture
async def stage(tmp_path):
    clock = SystemClock()
    store = VictoriaMetrics(tmp_path, free_port())
    origin = await start_origin(OriginConfig(data_dir=tmp_path / "origin", port=0))
    gateway = Gateway(
        GatewayConfig(
            port=0,
            upstream_url=origin.url,
            data_dir=tmp_path / "gateway",
            access_log="off",
            consistency_poll_interval_ms=50,
            metrics_backend_url=store.url,
            connect_timeout_seconds=2,
        )
    )
    await gateway.start()
    built = Stage(
        gateway,
        store,
        HttpClient(Origin.parse(f"http://127.0.0.1:{gateway.port}"), ClientConfig(), clock),
        HttpClient(Origin.parse(store.url), ClientConfig(), clock),
    )
    try:
        yield built
    finally:
        await built.client.close()
        await built.direct.close()
        await store.stop()
        await gateway.stop()
        await origin.close()
