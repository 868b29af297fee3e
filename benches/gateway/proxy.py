"""What the gateway costs: CPU per request, p50, p99 and rate, as ratios to nginx `proxy_pass` in the same run.

The origin's stand-in is an nginx that answers every query with the same 20 KB: films with their attributes, as a search
page asks for them, and beside it (`_vectors`) fewer films with their vectors, as `include_attributes: true` gives them.
In front of it, one at a time and each pinned to core 0, stand: nginx `proxy_pass` with keep-alive (the peer), a Rust
proxy that parses and re-serialises the JSON, and the gateway with authentication, metrics, access log, history and
tracing at their defaults. The stand-in and the load (wrk) share core 1. CPU is what the kernel charged to the process
and its children, so it is steadier than the rate.

    python benches/gateway/proxy.py [--seconds 4] [--runs 3] [--tls] [--out FILE]
"""

import argparse
import contextlib
import gzip
import json
import os
import platform
import random
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
KEY = "bench-gateway-key"
SERVER_CORE, LOAD_CORE = "0", "1"
TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS_MAX = 20
ANSWER_BYTES = 20 * 1024
FILMS = ROOT / "tests" / "data" / "films-sample.jsonl.gz"
SEED = 7
VECTOR_DIMENSIONS = 64

QUERY = {
    "rank_by": ["vector", "ANN", [round(0.001 * n, 3) for n in range(64)]],
    "limit": 10,
    "filters": ["year", "Gt", 1990],
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def films() -> list[dict[str, object]]:
    with gzip.open(FILMS, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def query_answer(*, with_vectors: bool) -> bytes:
    """A query answer of real films, as many as fit into `ANSWER_BYTES`, shaped as the upstream's: every attribute, the
    distance in the digits of a 32-bit float, text in UTF-8."""
    rng = random.Random(SEED)
    billing = {"billable_logical_bytes_queried": 1_280_000_000, "billable_logical_bytes_returned": 18_000}
    performance = {"cache_hit_ratio": 1.0, "cache_temperature": "hot", "server_total_ms": 3, "query_execution_ms": 2,
                   "exhaustive_search_count": 0, "approx_namespace_size": 36273}  # fmt: skip
    answer = b""
    rows: list[dict[str, object]] = []
    distance = 0.2
    for film in rng.sample(films(), 500):
        distance += rng.random() / 100
        row: dict[str, object] = {"id": film["id"], "$dist": short(distance)}
        if with_vectors:
            row["vector"] = [short(rng.gauss(0, 0.12)) for _ in range(VECTOR_DIMENSIONS)]
        rows.append({**row, **film})
        longer = {"rows": rows, "billing": billing, "performance": performance}
        text = json.dumps(longer, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > ANSWER_BYTES:
            break
        answer = text
    return answer


def short(number: float) -> float:
    """The shortest decimals that stand for the nearest 32-bit float."""
    packed = struct.pack("f", number)
    (single,) = struct.unpack("f", packed)
    return next(near for digits in range(1, 10) if struct.pack("f", near := float(f"{single:.{digits}g}")) == packed)


SCHEMA = {
    "id": {"type": "string"},
    "title": {"type": "string", "filterable": True},
    "_hevlayer_upserted_at": {"type": "int", "filterable": True},
}


def metadata(status: str) -> bytes:
    index: dict[str, object] = {"status": status}
    if status == "updating":
        index |= {"unindexed_bytes": 1, "unindexed_rows": 1}
    return json.dumps(
        {
            "schema": SCHEMA,
            "approx_row_count": 1,
            "approx_logical_bytes": 1,
            "created_at": "2026-11-01T00:00:00Z",
            "updated_at": "2026-11-01T00:00:00Z",
            "last_write_at": "2026-11-01T00:00:00Z",
            "encryption": {"mode": "default"},
            "index": index,
        }
    ).encode()


def one_document() -> bytes:
    row = {"id": "d1", "title": "a film", "extract": "x" * 4_000, "_hevlayer_upserted_at": 1_700_000_000_000}
    return json.dumps(
        {"rows": [row], "billing": {"billable_logical_bytes_queried": 1, "billable_logical_bytes_returned": 1},
         "performance": {"cache_hit_ratio": 1.0, "cache_temperature": "hot", "server_total_ms": 3,
                         "query_execution_ms": 3, "exhaustive_search_count": 1, "approx_namespace_size": 1}},
        separators=(",", ":"),
    ).encode()  # fmt: skip


NGINX = """
worker_processes 1;
daemon off;
pid {folder}/{name}.pid;
error_log {folder}/{name}.err crit;
events {{ worker_connections 1024; }}
http {{
  access_log {access_log};
  client_body_temp_path {folder}/{name}.body; proxy_temp_path {folder}/{name}.proxy;
  fastcgi_temp_path {folder}/{name}.f; uwsgi_temp_path {folder}/{name}.u; scgi_temp_path {folder}/{name}.s;
  keepalive_requests 100000000; keepalive_timeout 600s;
  default_type application/json;
  sendfile on; tcp_nodelay on; client_body_buffer_size 64k; client_max_body_size 64m;
  {servers}
}}
"""

# A static file cannot answer a POST: 405 turned into the file itself is nginx's own idiom for it.
STAND_IN = """
  server {{
    listen 127.0.0.1:{port} {ssl}; root {folder}/www;
    {certificate}
    location ~ ^/v2/namespaces/([^/]+)/metadata$ {{ try_files /metadata-$1.json =404; }}
    location ~ ^/v1/namespaces/([^/]+)/schema$ {{ try_files /schema.json =404; }}
    location = /v2/namespaces/documents/query {{ error_page 405 =200 /document.json; try_files /document.json =404; }}
    location = /v2/namespaces/vectors/query {{ error_page 405 =200 /vectors.json; try_files /vectors.json =404; }}
    location ~ /query$ {{ error_page 405 =200 /query.json; try_files /query.json =404; }}
  }}
"""

PROXY = """
  upstream origin {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {scheme}://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffers 16 32k; proxy_buffer_size 32k; proxy_ssl_verify off; proxy_ssl_session_reuse on;
    }}
  }}
"""


def tree_cpu_seconds(pid: int) -> float:
    """User and system time of a process and its living descendants."""
    total, waiting = 0.0, [pid]
    while waiting:
        current = waiting.pop()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{current}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / TICKS
            for task in Path(f"/proc/{current}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
    return total


@dataclass(slots=True)
class Load:
    """One wrk run. Latencies in microseconds."""

    requests: int
    rate: float
    p50_us: float
    p99_us: float
    cpu_us: float
    failures: int


UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


def microseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]


def load(port: int, pid: int, path: str, *, connections: int, seconds: float, script: Path) -> Load:
    before = tree_cpu_seconds(pid)
    out = subprocess.run(
        ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--latency",
         "-s", str(script), f"http://127.0.0.1:{port}{path}"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    cpu = tree_cpu_seconds(pid) - before
    requests = int(re.search(r"(\d+) requests in", out).group(1))  # type: ignore[union-attr]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    return Load(
        requests=requests,
        rate=float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)),  # type: ignore[union-attr]
        p50_us=microseconds(re.search(r"\n\s+50%\s+(\S+)", out).group(1)),  # type: ignore[union-attr]
        p99_us=microseconds(re.search(r"\n\s+99%\s+(\S+)", out).group(1)),  # type: ignore[union-attr]
        cpu_us=cpu / requests * 1e6,
        failures=(int(bad.group(1)) if bad else 0) + (sum(map(int, errors.groups())) if errors else 0),
    )


def fetch(url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, data=body, headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return bytes(answer.read())


@contextlib.contextmanager
def process(
    command: list[str], core: str, port: int, probe: str, body: bytes | None = None, **options: object
) -> Iterator[int]:
    running = subprocess.Popen(["taskset", "-c", core, *command], **options)  # type: ignore[call-overload]
    try:
        for _ in range(START_SECONDS_MAX * 20):
            if running.poll() is not None:
                raise SystemExit(f"{command[0]} ended with code {running.returncode}")
            try:
                fetch(f"http://127.0.0.1:{port}{probe}", body)
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise SystemExit(f"{command[0]} did not answer within {START_SECONDS_MAX} s")
        yield running.pid
    finally:
        running.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(15)
        running.kill()


@dataclass(slots=True)
class Bench:
    folder: Path
    seconds: float
    runs: int
    tls: bool
    nginx: str
    loads: dict[str, dict[str, list[Load]]] = field(default_factory=dict)

    def write_file(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def nginx_config(self, name: str, servers: str, access_log: str = "off") -> list[str]:
        text = NGINX.format(folder=self.folder, name=name, servers=servers, access_log=access_log)
        return [self.nginx, "-p", str(self.folder), "-c", str(self.write_file(f"{name}.conf", text))]

    def certificate(self) -> tuple[Path, str]:
        key, certificate = self.folder / "key.pem", self.folder / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", str(key), "-out", str(certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
        return certificate, f"ssl_certificate {certificate}; ssl_certificate_key {key};"

    def measure(self, name: str, port: int, pid: int, path: str, script: Path) -> None:
        load(port, pid, path, connections=16, seconds=1, script=script)  # warms up connections and caches
        for connections in (1, 64):
            result = load(port, pid, path, connections=connections, seconds=self.seconds, script=script)
            if result.failures:
                raise SystemExit(f"{name}: {result.failures} failed requests: the figures would be of errors")
            self.loads.setdefault(name, {}).setdefault(str(connections), []).append(result)

    def gateway_environment(self, upstream: int, certificate: Path | None) -> dict[str, str]:
        scheme = "https" if self.tls else "http"
        environment = {
            **os.environ,
            "LAYER_UPSTREAM_URL": f"{scheme}://localhost:{upstream}"
            if self.tls
            else f"{scheme}://127.0.0.1:{upstream}",
            "LAYER_GATEWAY_API_KEY": KEY,
            "TURBOPUFFER_API_KEY": "tpuf_bench_upstream_key",
            "LAYER_DATA_DIR": str(self.folder / "gateway-data"),
            "CONSISTENCY_POLL_INTERVAL_MS": "200",
        }
        if certificate is not None:
            environment["LAYER_UPSTREAM_CA_FILE"] = str(certificate)
        return environment

    def run(self) -> None:
        www = self.folder / "www"
        www.mkdir()
        (www / "query.json").write_bytes(query_answer(with_vectors=False))
        (www / "vectors.json").write_bytes(query_answer(with_vectors=True))
        (www / "document.json").write_bytes(one_document())
        (www / "schema.json").write_bytes(json.dumps(SCHEMA).encode())
        for name in ("stable", "vectors", "documents", "filtered"):
            (www / f"metadata-{name}.json").write_bytes(metadata("up-to-date"))
        body = json.dumps(QUERY, separators=(",", ":"))
        post = self.write_file(
            "post.lua",
            'wrk.method="POST"\nwrk.body=[==[' + body + ']==]\nwrk.headers["Content-Type"]="application/json"\n'
            f'wrk.headers["Authorization"]="Bearer {KEY}"\nwrk.headers["Accept"]="application/json"\n'
            'wrk.headers["Accept-Encoding"]="identity"\nwrk.headers["User-Agent"]="Turbopuffer/Python 3.1.0"\n'
            'wrk.headers["prefer"]="respond-async"\nwrk.headers["X-Stainless-Lang"]="python"\n',
        )
        get = self.write_file("get.lua", f'wrk.headers["Authorization"]="Bearer {KEY}"\n')
        certificate, certificate_lines = self.certificate() if self.tls else (None, "")
        origin_port = free_port()
        stand_in = STAND_IN.format(
            port=origin_port, ssl="ssl" if self.tls else "", folder=self.folder, certificate=certificate_lines
        )
        scheme = "https" if self.tls else "http"
        probe_port = origin_port
        if self.tls:  # the readiness probe speaks plain HTTP
            probe_port = free_port()
            stand_in += STAND_IN.format(port=probe_port, ssl="", folder=self.folder, certificate="")
        query = "/v2/namespaces/{}/query"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with process(self.nginx_config("origin", stand_in), LOAD_CORE, probe_port, "/query.json"):
            for run in range(self.runs):
                print(f"run {run + 1} of {self.runs}", file=sys.stderr)
                port = free_port()
                proxy = PROXY.format(port=port, upstream=origin_port, scheme=scheme)
                with process(
                    self.nginx_config("proxy", proxy, f"{self.folder}/access.log"), SERVER_CORE, port, "/"
                ) as pid:
                    self.measure("nginx", port, pid, query.format("stable"), post)
                    self.measure("nginx_vectors", port, pid, query.format("vectors"), post)
                json_proxy = HERE.parent / "peers/json-proxy/target/release/json-proxy"
                if json_proxy.exists() and not self.tls:
                    port = free_port()
                    probe = query.format("stable")
                    with process(
                        [str(json_proxy), str(port), str(origin_port)], SERVER_CORE, port, probe, b"{}"
                    ) as pid:
                        self.measure("rust_json_proxy", port, pid, query.format("stable"), post)
                        self.measure("rust_json_proxy_vectors", port, pid, query.format("vectors"), post)
                self.measure_gateway(origin_port, certificate, query, post, get, www, quiet)

    def measure_gateway(
        self,
        origin_port: int,
        certificate: Path | None,
        query: str,
        post: Path,
        get: Path,
        www: Path,
        quiet: dict[str, int],
    ) -> None:
        port = free_port()
        log = (self.folder / "gateway.log").open("ab")
        command = [sys.executable, "-m", "hevlayer.cli.main", "gateway", "--host", "127.0.0.1", "--port", str(port)]
        environment = self.gateway_environment(origin_port, certificate)
        with process(command, SERVER_CORE, port, "/health", env=environment, stdout=log, stderr=log) as pid:
            base = f"http://127.0.0.1:{port}"
            # A process's first queries are cheaper than its later ones, whose history is being written.
            self.measure("gateway_warm_up", port, pid, query.format("stable"), post)
            (www / "metadata-filtered.json").write_bytes(metadata("up-to-date"))
            fetch(base + query.format("filtered"), json.dumps(QUERY).encode())
            time.sleep(1.5)
            (www / "metadata-filtered.json").write_bytes(metadata("updating"))
            time.sleep(1.5)
            self.expect_header(base + query.format("filtered"), "x-layer-consistency", "filtered")
            namespaces = {"gateway": "stable", "gateway_filtered": "filtered", "gateway_vectors": "vectors"}
            for name in (*namespaces, *reversed(namespaces)):
                self.measure(name, port, pid, query.format(namespaces[name]), post)
            self.expect_header(base + query.format("filtered"), "x-layer-consistency", "filtered")
            (www / "metadata-filtered.json").write_bytes(metadata("up-to-date"))
            if not self.tls:
                document = "/v2/namespaces/documents/documents/d1?include_attributes=title,extract"
                fetch(base + document)
                self.expect_header(base + document, "x-layer-cache", "hit")
                self.measure("gateway_cached_fetch", port, pid, document, get)
        if not self.tls:
            port = free_port()
            command = [sys.executable, str(HERE / "constant_server.py"), str(port), "4096"]
            with process(command, SERVER_CORE, port, "/", **quiet) as pid:
                self.measure("constant_4k", port, pid, "/", get)
            port = free_port()
            command = [sys.executable, str(HERE / "constant_server.py"), str(port), "4096", "at-once"]
            with process(command, SERVER_CORE, port, "/", **quiet) as pid:
                self.measure("constant_4k_at_once", port, pid, "/", get)

    @staticmethod
    def expect_header(url: str, name: str, value: str) -> None:
        body = json.dumps(QUERY).encode() if url.endswith("/query") else None
        request = urllib.request.Request(url, data=body, headers={"Authorization": f"Bearer {KEY}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            seen = answer.headers.get(name)
        if seen != value:
            raise SystemExit(f"{url}: {name} is {seen!r}, expected {value!r}: the figures would be of something else")

    def report(self) -> dict[str, object]:
        def median(name: str, connections: str, what: str) -> float:
            return statistics.median(getattr(run, what) for run in self.loads[name][connections])

        subjects = {
            name: {
                connections: {
                    what: round(median(name, connections, what), 1) for what in ("cpu_us", "p50_us", "p99_us", "rate")
                }
                for connections in runs
            }
            for name, runs in self.loads.items()
        }
        ratios: dict[str, float] = {}
        for name in ("gateway", "gateway_filtered", "gateway_vectors", "rust_json_proxy", "rust_json_proxy_vectors"):
            if name not in self.loads:
                continue
            peer = "nginx_vectors" if name.endswith("_vectors") else "nginx"
            for connections in ("1", "64"):
                ratios[f"{name} cpu / {peer}, {connections} connections"] = round(
                    median(name, connections, "cpu_us") / median(peer, connections, "cpu_us"), 2
                )
            ratios[f"{name} p50 added at 1 connection, us"] = round(
                median(name, "1", "p50_us") - median(peer, "1", "p50_us"), 1
            )
        if "gateway_cached_fetch" in self.loads:
            for name, constant in (("constant answer", "constant_4k"), ("bytes that are ready", "constant_4k_at_once")):
                ratios[f"cached fetch rate / {name} rate, 64 connections"] = round(
                    median("gateway_cached_fetch", "64", "rate") / median(constant, "64", "rate"), 2
                )
        more = median("gateway_filtered", "64", "cpu_us") - median("gateway", "64", "cpu_us")
        ratios["gateway_filtered cpu more than gateway, in nginx, 64 connections"] = round(
            more / median("nginx", "64", "cpu_us"), 2
        )
        return {
            "suite": "proxy-tls" if self.tls else "proxy",
            "date": datetime.now(UTC).date().isoformat(),
            "machine": {
                "cpu": cpu_name(),
                "cores": os.cpu_count(),
                "kernel": platform.release(),
                "python": platform.python_version(),
            },
            "runs": self.runs,
            "seconds": self.seconds,
            "answer_bytes": {
                "films": len(query_answer(with_vectors=False)),
                "films with vectors": len(query_answer(with_vectors=True)),
            },
            "medians": subjects,
            "ratios": ratios,
        }


def cpu_name() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found.group(1) if found else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    with tempfile.TemporaryDirectory(prefix="hevlayer-bench-") as folder:
        Path(folder).chmod(0o755)  # nginx drops its privileges
        bench = Bench(Path(folder), options.seconds, options.runs, options.tls, nginx)
        bench.run()
        report = json.dumps(bench.report(), indent=2)
    print(report)
    if options.out:
        options.out.write_text(report + "\n")


if __name__ == "__main__":
    main()
