"""A whole gateway in front of the local origin, both in this process, and what went between them."""

import asyncio
import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from hevlayer.clock import SystemClock
from hevlayer.gateway.access_log import OFF, AccessLog
from hevlayer.gateway.app import Gateway
from hevlayer.gateway.config import GatewayConfig
from hevlayer.http.client import HttpClient, Origin
from hevlayer.origin.config import OriginConfig
from hevlayer.origin.process import RunningOrigin, start_origin

SAMPLE = Path(__file__).resolve().parents[4] / "tests" / "data" / "films-sample.jsonl.gz"
BEARER = (b"authorization", b"Bearer tpuf_stage")
WAIT_SECONDS = 20
FILMS_SCHEMA = {
    "title": {"type": "string", "full_text_search": True, "filterable": True},
    "extract": {"type": "string", "filterable": False},
}


def read_films():
    """The thousand films of the sample, with vectors of three numbers made of their title and year."""
    rows = []
    for line in gzip.decompress(SAMPLE.read_bytes()).splitlines():
        film = json.loads(line)
        digest = sum(film["title"].encode())
        vector = [digest % 7 + 0.5, film["year"] % 11 - 3.0, digest % 13 / 4]
        rows.append({**film, "vector": vector})
    return rows


FILMS = read_films()


@dataclass
class Answer:
    status: int
    body: object
    headers: dict[bytes, bytes] = field(repr=False)


class Stage:
    """One gateway, its origin, a client, and the requests that went up."""

    def __init__(self, origin: RunningOrigin, gateway: Gateway, client: HttpClient) -> None:
        self.origin = origin
        self.gateway = gateway
        self.client = client
        self.up = []
        send = gateway.upstream.send

        async def recorded(method, target, headers, body=b"", **options):
            self.up.append((method, target.decode(), body if isinstance(body, bytes) else b""))
            return await send(method, target, headers, body, **options)

        gateway.upstream.send = recorded

    async def call(self, method, target, body=None, *, headers=(BEARER,)):
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        answer = await self.client.request(method, target.encode(), list(headers), content)
        text = await answer.read(64 << 20)
        found = orjson.loads(text) if text[:1] in (b"{", b"[") else text
        return Answer(answer.status, found, dict(answer.headers))

    async def ok(self, method, target, body=None, status=200):
        answer = await self.call(method, target, body)
        assert answer.status == status, answer
        return answer.body

    def queries(self):
        """Bodies of the queries that went up."""
        return [orjson.loads(body) for _, target, body in self.up if target.endswith("/query")]

    async def write(self, namespace, rows, **more):
        return await self.ok("POST", f"/v2/namespaces/{namespace}", {"upsert_rows": rows, **more})

    async def films(self, namespace="films", rows=None):
        await self.write(namespace, rows or FILMS, schema=FILMS_SCHEMA, distance_metric="euclidean_squared")
        return namespace

    async def around(self, method, target, body):
        """A request to the origin itself."""
        client = HttpClient(Origin.parse(self.origin.url), None, SystemClock())
        answer = await client.request(method, target.encode(), [BEARER], json.dumps(body).encode())
        text = await answer.read(1 << 20)
        assert answer.status == 200, text
        await client.close()

    async def index_lag(self, ms):
        """Writes from now on are indexed this much later."""
        await self.around("PUT", "/_origin/index-lag", {"ms": ms})

    async def done(self, path):
        """The job there, once it has ended."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (job := await self.ok("GET", path))["status"] == "running":  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return job

    async def until(self, condition):
        async with asyncio.timeout(WAIT_SECONDS):
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def warm(self, namespace="films"):
        """Warms it; the ended job."""
        job = await self.ok("POST", f"/v2/namespaces/{namespace}/warm", status=202)
        return await self.done(f"/v2/namespaces/{namespace}/warm-jobs/{job['id']}")

    def answers(self, source):
        """Scans that the cache answered from `columns` or from `rows`."""
        samples = self.gateway.metrics.registry.exposition().decode().splitlines()
        name = "layer_columns_answers_total{"
        found = [line for line in samples if line.startswith(name) and f'source="{source}"' in line]
        return sum(float(line.split()[-1]) for line in found)

    async def cache_state(self, namespace="films"):
        return (await self.ok("GET", f"/v2/namespaces/{namespace}/metadata"))["layer"]["cache_state"]


@dataclass
class Stages:
    """Makes stages and takes them down."""

    folder: Path
    made: list[Stage] = field(default_factory=list)
    origins: list[RunningOrigin] = field(default_factory=list)
    """Those of stages that a test has taken down itself."""

    async def __call__(self, *, origin=None, **settings):
        number = len(self.made) + len(self.origins)
        if origin is None:
            origin = await start_origin(OriginConfig(self.folder / f"origin-{number}", port=0, control=True))
        config = GatewayConfig(
            **{
                "port": 0,
                "upstream_url": origin.url,
                "data_dir": self.folder / f"data-{number}",
                "spool_dir": self.folder / "spool",
                "consistency_poll_interval_ms": 20,
                "consistency_safety_margin_ms": 0,
                "drain_seconds": 5.0,
                **settings,
            }
        ).check()
        gateway = Gateway(config, access_log=AccessLog(OFF))
        await gateway.start()
        client = HttpClient(Origin.parse(f"http://127.0.0.1:{gateway.port}"), None, SystemClock())
        stage = Stage(origin, gateway, client)
        self.made.append(stage)
        return stage

    async def close(self):
        for stage in self.made:
            await stage.client.close()
            await stage.gateway.stop()
        origins = [*self.origins, *(stage.origin for stage in self.made)]
        for origin in {id(origin): origin for origin in origins}.values():
            await origin.close()
