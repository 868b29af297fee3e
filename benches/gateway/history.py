"""What recording costs a query: its latency with the record off, on, and on with an object store that hangs, is down
or is full.

One gateway process at a time stands before a server that answers every query with the same 20 KB; queries are sent at a
fixed rate on a few connections, so that a slow one shows. The rounds alternate, and each figure is the median of them.
The hanging store is a TCP server that takes S3 requests and never answers, the one that is down a port where nobody
listens; the full one answers each request with S3's 507.

    python benches/gateway/history.py [--seconds 5] [--runs 5] [--rate 300] [--out FILE]
"""

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvloop

from hevlayer.clock import SystemClock
from hevlayer.http.client import HttpClient, Origin
from hevlayer.http.messages import Request, Response
from hevlayer.http.server import ServerConfig, serve

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from proxy import KEY, QUERY, constant_answer, free_port, metadata, tree_cpu_seconds
from reporting import arguments, write_report

NAMESPACES = 20
CONNECTIONS = 32
START_SECONDS_MAX = 30
WARM_UP_SECONDS = 4.0
HEADERS = [(b"authorization", f"Bearer {KEY}".encode()), (b"x-hevlayer-tags", b"app:bench")]
BODY = json.dumps(QUERY).encode()


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    """The constant answer, and a settled namespace."""
    answered = Response(200, [(b"content-type", b"application/json")], constant_answer())
    described = Response(200, [(b"content-type", b"application/json")], metadata("up-to-date"))

    async def answer(request: Request) -> Response:
        return described if request.target.endswith(b"metadata") else answered

    server = await serve(answer, host="127.0.0.1", port=0, config=ServerConfig())
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.close()


@contextlib.asynccontextmanager
async def never() -> AsyncIterator[str]:
    """Takes requests, and answers none."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@contextlib.asynccontextmanager
async def full() -> AsyncIterator[str]:
    """Answers every request as an S3 store without room does."""
    body = b'<?xml version="1.0"?><Error><Code>XMinioStorageFull</Code><Message>no room</Message></Error>'
    refused = Response(507, [(b"content-type", b"application/xml")], body)

    async def answer(request: Request) -> Response:
        return refused

    server = await serve(answer, host="127.0.0.1", port=0, config=ServerConfig())
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.close()


def store_at(url: str) -> dict[str, str]:
    """Settings of a gateway whose objects are there."""
    return {
        "LAYER_S3_BUCKET": "bench",
        "LAYER_S3_REGION": "us-east-1",
        "LAYER_S3_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
    }


@contextlib.contextmanager
def gateway(folder: Path, upstream_url: str, settings: dict[str, str]) -> Iterator[tuple[int, int]]:
    """A gateway process. Yields: its port and pid."""
    port = free_port()
    environment = {
        **os.environ,
        "LAYER_GATEWAY_API_KEY": KEY,
        "TURBOPUFFER_API_KEY": "tpuf_bench",
        "LAYER_UPSTREAM_URL": upstream_url,
        "LAYER_DATA_DIR": str(folder),
        "LAYER_ACCESS_LOG": "off",
        "LAYER_LOG_LEVEL": "error",
        **settings,
    }
    running = subprocess.Popen(
        [sys.executable, "-m", "hevlayer.cli.main", "gateway", "--port", str(port)], env=environment
    )
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if running.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the gateway did not start")
            time.sleep(0.05)
        yield port, running.pid
    finally:
        # A store that hangs would be waited for.
        running.kill()
        running.wait()


async def latencies(port: int, rate: float, seconds: float) -> list[float]:
    """Seconds of each query from when it was due, so that a stall counts for all that wait behind it."""
    client = HttpClient(Origin.parse(f"http://127.0.0.1:{port}"), None, SystemClock())
    taken: list[float] = []
    begin = time.perf_counter() + 0.1

    async def one(number: int) -> None:
        due = begin + number / rate
        await asyncio.sleep(due - time.perf_counter())
        target = f"/v2/namespaces/ns{number % NAMESPACES}/query".encode()
        answer = await client.request("POST", target, HEADERS, BODY)
        await answer.read(1 << 20)
        if answer.status != 200:
            raise SystemExit(f"a query was answered with {answer.status}")
        taken.append(time.perf_counter() - due)

    gate = asyncio.Semaphore(CONNECTIONS)

    async def bounded(number: int) -> None:
        async with gate:
            await one(number)

    await asyncio.gather(*(bounded(number) for number in range(int(rate * seconds))))
    await client.close()
    return sorted(taken)


async def round_of(upstream_url: str, settings: dict[str, str], rate: float, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, gateway(Path(folder), upstream_url, settings) as (port, pid):
        # Long enough for the first flushes, which load the client of the store.
        await latencies(port, rate, WARM_UP_SECONDS)
        before = tree_cpu_seconds(pid)
        taken = await latencies(port, rate, seconds)
        return {
            "p50_us": taken[len(taken) // 2] * 1e6,
            "p99_us": taken[len(taken) * 99 // 100] * 1e6,
            "cpu_us": (tree_cpu_seconds(pid) - before) / len(taken) * 1e6,
        }


async def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=300.0)
    options = parser.parse_args()
    async with upstream() as upstream_url, never() as hanging_url, full() as full_url:
        kinds: dict[str, dict[str, str]] = {
            "off": {"LAYER_HISTORY": "off"},
            "on": {},
            "on, the store hangs": store_at(hanging_url),
            "on, the store is down": store_at(f"http://127.0.0.1:{free_port()}"),
            "on, the store is full": store_at(full_url),
        }
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
        for _ in range(options.runs):
            for name, settings in kinds.items():
                rounds[name].append(await round_of(upstream_url, settings, options.rate, options.seconds))
    medians = {
        name: {key: round(statistics.median(each[key] for each in taken), 1) for key in taken[0]}
        for name, taken in rounds.items()
    }
    ratios = {
        name: {key: round(median[key] / medians["off"][key], 3) for key in median} for name, median in medians.items()
    }
    write_report(
        "history",
        {
            "peer": "the same gateway with LAYER_HISTORY=off",
            "queries_per_second": options.rate,
            "connections": CONNECTIONS,
            "seconds": options.seconds,
            "runs": options.runs,
            "medians": medians,
            "ratio_to_off": ratios,
            "load_average": os.getloadavg(),
        },
        options.out,
    )


if __name__ == "__main__":
    uvloop.run(main())
