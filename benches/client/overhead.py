"""What a call of a client costs: our two classes, the published client, Turbopuffer's own, and two HTTP libraries bare.

One server that answers at once with the same query answer; each client in a process of its own, in turns.

    PYTHONPATH=python python benches/client/overhead.py [--calls 1500] [--rounds 5] [--out FILE]
"""

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED_PYTHON = ROOT / "tests" / "contract" / "vendor" / "published-venv" / "bin" / "python"
# Name, interpreter; the first of each pair is what the others are compared with.
ASYNC = ("published-async", "own-async", "turbopuffer-async", "pyreqwest-async", "httpx2-async")
SYNC = ("turbopuffer-sync", "own-sync", "pyreqwest-sync", "httpx2-sync")
CONCURRENCIES = (1, 16)
WARM_UP_CALLS = 100
WORKER_TIMEOUT_SECONDS = 120
DIMENSIONS, ROWS = 384, 10
BODY = {"rank_by": ["vector", "ANN", [0.1234567] * DIMENSIONS], "top_k": ROWS, "include_attributes": ["title", "year"]}
ANSWER = {
    "rows": [{"id": f"tt{n:07}", "$dist": n / 100, "title": "A title of a film", "year": 1979} for n in range(ROWS)],
    "billing": {"billable_logical_bytes_queried": 1, "billable_logical_bytes_returned": 1},
    "performance": {"cache_hit_ratio": 1.0, "cache_temperature": "hot", "server_total_ms": 1, "query_execution_ms": 1,
                    "exhaustive_search_count": 0, "approx_namespace_size": 100},
}  # fmt: skip


class Constant(asyncio.Protocol):
    """Answers each whole request with the same bytes."""

    _content = json.dumps(ANSWER).encode()
    _whole = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_content) + _content
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._seen = transport, b""

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, end, body = self._seen.partition(b"\r\n\r\n")
        lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if end and len(body) >= int(lengths[0]):
            self._seen = b""
            self._transport.write(self._whole)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def async_call(name: str, url: str) -> Callable[[], Awaitable[object]]:
    target, content = f"{url}/v2/namespaces/films/query", json.dumps(BODY).encode()
    headers = {"authorization": "Bearer key", "content-type": "application/json"}
    match name:
        case "own-async" | "published-async":
            import hevlayer

            layer = hevlayer.AsyncHevlayer(base_url=url, api_key="key")
            return lambda: layer.query_namespace("films", BODY)
        case "turbopuffer-async":
            import turbopuffer

            films = turbopuffer.AsyncTurbopuffer(base_url=url, api_key="key").namespace("films")
            return lambda: films.query(**BODY)
        case "pyreqwest-async":
            from pyreqwest.client import ClientBuilder

            pool = ClientBuilder().http1_only().build()

            async def call() -> object:
                response = await pool.post(target).headers(headers).body_bytes(content).build().send()
                return json.loads(bytes(await response.bytes()))

            return call
    import httpx2

    bare = httpx2.AsyncClient()

    async def call_httpx() -> object:
        return (await bare.post(target, content=content, headers=headers)).json()

    return call_httpx


def sync_call(name: str, url: str) -> Callable[[], object]:
    target, content = f"{url}/v2/namespaces/films/query", json.dumps(BODY).encode()
    headers = {"authorization": "Bearer key", "content-type": "application/json"}
    match name:
        case "own-sync":
            import hevlayer

            layer = hevlayer.Hevlayer(base_url=url, api_key="key")
            return lambda: layer.query_namespace("films", BODY)
        case "turbopuffer-sync":
            import turbopuffer

            films = turbopuffer.Turbopuffer(base_url=url, api_key="key").namespace("films")
            return lambda: films.query(**BODY)
        case "pyreqwest-sync":
            from pyreqwest.client import SyncClientBuilder

            pool = SyncClientBuilder().http1_only().build()
            return lambda: json.loads(
                bytes(pool.post(target).headers(headers).body_bytes(content).build().send().bytes())
            )
    import httpx2

    bare = httpx2.Client()
    return lambda: bare.post(target, content=content, headers=headers).json()


def used_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure_async(call: Callable[[], Awaitable[object]], calls: int, concurrency: int) -> tuple[float, float]:
    async def one_by_one(count: int) -> None:
        for _ in range(count):
            await call()

    await one_by_one(WARM_UP_CALLS)
    cpu, wall = used_seconds(), time.perf_counter()
    await asyncio.gather(*(one_by_one(calls // concurrency) for _ in range(concurrency)))
    done = calls // concurrency * concurrency
    return (used_seconds() - cpu) / done * 1e6, (time.perf_counter() - wall) / done * 1e6


def measure_sync(call: Callable[[], object], calls: int) -> tuple[float, float]:
    for _ in range(WARM_UP_CALLS):
        call()
    cpu, wall = used_seconds(), time.perf_counter()
    for _ in range(calls):
        call()
    return (used_seconds() - cpu) / calls * 1e6, (time.perf_counter() - wall) / calls * 1e6


def work(name: str, url: str, calls: int, concurrency: int) -> None:
    """One measurement: microseconds of CPU and of the clock for a call."""
    if name.endswith("-async"):

        async def main() -> tuple[float, float]:
            return await measure_async(async_call(name, url), calls, concurrency)

        result = asyncio.run(main())
    else:
        result = measure_sync(sync_call(name, url), calls)
    print(json.dumps(result), flush=True)
    # Clients that were not closed would complain.
    os._exit(0)


def run_worker(name: str, url: str, calls: int, concurrency: int) -> tuple[float, float]:
    published = name.startswith("published")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LAYER_", "TURBOPUFFER_"))}
    if published:
        environment.pop("PYTHONPATH", None)
    python = str(PUBLISHED_PYTHON) if published else sys.executable
    command = [python, __file__, "--worker", name, url, str(calls), str(concurrency)]
    finished = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=WORKER_TIMEOUT_SECONDS
    )
    cpu, wall = json.loads(finished.stdout)
    return cpu, wall


def main() -> None:
    sys.path.insert(0, str(ROOT / "benches"))
    from reporting import arguments, write_report

    parser = arguments(__doc__)
    parser.add_argument("--calls", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            cases = [(name, each) for each in CONCURRENCIES for name in ASYNC] + [(name, 1) for name in SYNC]
            found: dict[tuple[str, int], list[tuple[float, float]]] = {case: [] for case in cases}
            for _ in range(options.rounds):
                for name, concurrency in cases:
                    found[name, concurrency].append(run_worker(name, url, options.calls, concurrency))
        finally:
            server.terminate()
    results = []
    for (name, concurrency), measured in found.items():
        peer = (ASYNC if name.endswith("async") else SYNC)[0]
        cpu = statistics.median(each[0] for each in measured)
        results.append(
            {
                "client": name,
                "concurrency": concurrency,
                "cpu_us": round(cpu, 1),
                "wall_us": round(statistics.median(each[1] for each in measured), 1),
                "cpu_us_all": [round(each[0], 1) for each in measured],
                "peer": peer,
                "cpu_peer_over_this": round(statistics.median(each[0] for each in found[peer, concurrency]) / cpu, 2),
            }
        )
        print(results[-1], flush=True)
    write_report(
        "client",
        {
            "what": "CPU and time of one query call, a server that answers at once, 384 numbers up, 10 rows down",
            "calls": options.calls,
            "rounds": options.rounds,
            "results": results,
        },
        options.out,
    )


if __name__ == "__main__":
    if "--serve" in sys.argv:
        asyncio.run(serve())
    elif "--worker" in sys.argv:
        work(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
