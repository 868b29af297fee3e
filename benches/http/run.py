"""CPU per request of our HTTP server and relay, beside nginx `proxy_pass` and a bare llhttp protocol, as JSON.

Needs nginx and wrk. The server under measurement runs on CPU 0; wrk and the origin (nginx, 20 KB) on CPU 1.

    PYTHONPATH=python python benches/http/run.py [--seconds 5] [--connections 1 64] [--rounds 3] [--mode relay]
"""

import argparse
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ANSWER_BYTES = 20 * 1024
MODES = ("protocol", "constant", "relay", "nginx")
MEASURED_CPU, LOAD_CPU = "0", "1"
WARM_UP_SECONDS = 1.0
START_SECONDS_MAX = 10.0

COMMON = """
worker_processes 1; daemon off; pid {dir}/{name}.pid; error_log {dir}/{name}.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300s;
  client_body_temp_path {dir}/{name}.body; proxy_temp_path {dir}/{name}.proxy; fastcgi_temp_path {dir}/{name}.f;
  uwsgi_temp_path {dir}/{name}.u; scgi_temp_path {dir}/{name}.s; client_max_body_size 64m;
"""
ORIGIN = (
    COMMON
    + """
  open_file_cache max=10 inactive=1h;
  server {{ listen 127.0.0.1:{port} backlog=1024; root {dir};
    location / {{ default_type application/json; error_page 405 =200 $uri; try_files /answer.json =404; }} }}
}}
"""
)
PROXY = (
    COMMON
    + """
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=1024;
    location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffers 16 16k; proxy_buffer_size 16k; }} }}
}}
"""
)
REQUEST = """
wrk.method = "POST"
wrk.body = '{"rank_by":["vector","ANN",[' .. string.rep("0.1234567,", 383) .. '0.1]],"limit":10}'
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer secret"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pids: list[int]) -> float:
    """Time on a processor, of all threads, from the scheduler's own count."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def start_nginx(directory: Path, name: str, text: str, cpu: str) -> subprocess.Popen[bytes]:
    path = directory / f"{name}.conf"
    path.write_text(text)
    return subprocess.Popen(["taskset", "-c", cpu, "nginx", "-c", str(path), "-e", f"{directory}/{name}.log"])


def await_port(port: int) -> None:
    give_up = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)


def load(port: int, connections: int, seconds: float, script: Path) -> dict[str, float]:
    command = ["taskset", "-c", LOAD_CPU, "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency"]
    run = subprocess.run(
        [*command, "-s", str(script), f"http://127.0.0.1:{port}/v2/namespaces/films/query"],
        capture_output=True,
        text=True,
        check=True,
    )
    text = run.stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text)

    def latency_us(percent: str) -> float:
        found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)\b", text)
        assert found is not None
        return float(found[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[found[2]]

    count = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert count is not None
    assert rate is not None
    return {
        "requests": int(count[1]),
        "requests_per_second": float(rate[1]),
        "p50_us": latency_us("50"),
        "p99_us": latency_us("99"),
    }


def measure(mode: str, origin: int, directory: Path, connections: list[int], seconds: float) -> dict[int, dict]:
    script = directory / "request.lua"
    if mode == "nginx":
        port = free_port()
        text = PROXY.format(dir=directory, name="proxy", port=port, origin=origin)
        process: subprocess.Popen = start_nginx(directory, "proxy", text, MEASURED_CPU)
    else:
        process = subprocess.Popen(
            ["taskset", "-c", MEASURED_CPU, sys.executable, str(HERE / "target.py"), mode, str(origin)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        port = int(process.stdout.readline())
    try:
        await_port(port)
        pids = children(process.pid) if mode == "nginx" else [process.pid]
        results = {}
        for count in connections:
            load(port, count, WARM_UP_SECONDS, script)
            before = cpu_seconds(pids)
            result = load(port, count, seconds, script)
            result["cpu_us"] = (cpu_seconds(pids) - before) / result["requests"] * 1e6
            results[count] = result
        return results
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "answer.json").write_bytes(b"x" * ANSWER_BYTES)
        (directory / "request.lua").write_text(REQUEST)
        origin = free_port()
        upstream = start_nginx(directory, "origin", ORIGIN.format(dir=directory, name="origin", port=origin), LOAD_CPU)
        runs: dict[tuple[str, int], list[dict]] = {}
        try:
            await_port(origin)
            for _ in range(options.rounds):
                for mode in options.mode:
                    results = measure(mode, origin, directory, options.connections, options.seconds)
                    for count, result in results.items():
                        runs.setdefault((mode, count), []).append(result)
        finally:
            upstream.terminate()
            upstream.wait()
    report = [
        {
            "mode": mode,
            "connections": count,
            **{key: round(statistics.median(result[key] for result in results), 1) for key in results[0]},
            "cpu_us_runs": [round(result["cpu_us"], 1) for result in results],
        }
        for (mode, count), results in runs.items()
    ]
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
