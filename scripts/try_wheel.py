"""Installs a wheel alone into an empty environment, starts `hevlayer dev` from it, and uses it once."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
import zipfile
from pathlib import Path

# The client, as a program that has nothing but the wheel and what it asks for.
CLIENT = """
import sys
import hevlayer
with hevlayer.Hevlayer(base_url=sys.argv[1], api_key="tpuf_try", max_retries=0) as client:
    found = client.query_namespace("try", {"vector": [0.1, 0.2], "top_k": 1}, with_perf=True)
    assert [row["id"] for row in found.data.rows] == [1], found
    assert client.fetch_document("try", 1).attributes["title"] == "a film"
"""
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(base: str, method: str, path: str, body: object = None) -> object:
    request = urllib.request.Request(
        base + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": "Bearer tpuf_try", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def wait_until_ready(base: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(START_SECONDS_MAX * 10):
        if process.poll() is not None:
            raise SystemExit(f"hevlayer dev ended with code {process.returncode} before it was ready")
        try:
            call(base, "GET", "/ready")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"hevlayer dev was not ready after {START_SECONDS_MAX} s")


def refuse_machine_paths(wheel: Path) -> None:
    """Nothing in the wheel names a folder of the machine that built it."""
    folders = [str(Path.cwd()).encode(), str(Path.home()).encode() + b"/"]
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            for folder in folders:
                at = content.find(folder)
                if at >= 0:
                    raise SystemExit(f"{wheel.name}: {name} names this machine: {content[at : at + 100]!r}")


def want_a_hint_from_layer(environment: Path) -> None:
    """`layer` without the packages of its extra says in one sentence what to install."""
    finished = subprocess.run([environment / "bin/layer"], capture_output=True, text=True, check=False, timeout=60)
    lines = finished.stderr.splitlines()
    if finished.returncode != 2 or len(lines) != 1 or "pip install 'hevlayer[cli]'" not in lines[0]:
        raise SystemExit(f"layer without its extra ended with {finished.returncode} and said {finished.stderr!r}")


def main() -> None:
    wheel = Path(sys.argv[1]).resolve()
    refuse_machine_paths(wheel)
    with tempfile.TemporaryDirectory(prefix="hevlayer-wheel-") as folder:
        environment = Path(folder) / "venv"
        venv.create(environment, with_pip=True)
        subprocess.run([environment / "bin/python", "-m", "pip", "install", "--quiet", str(wheel)], check=True)
        want_a_hint_from_layer(environment)
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        log = Path(folder) / "dev.log"
        process = subprocess.Popen(
            [
                environment / "bin/hevlayer", "dev",
                "--port", str(port), "--origin-port", "0", "--data-dir", str(Path(folder) / "data"),
            ],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": folder},
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            wait_until_ready(base, process)
            row = {"id": 1, "vector": [0.1, 0.2], "title": "a film"}
            call(base, "POST", "/v2/namespaces/try", {"upsert_rows": [row], "distance_metric": "cosine_distance"})
            answer = call(
                base, "POST", "/v2/namespaces/try/query", {"rank_by": ["vector", "ANN", [0.1, 0.2]], "limit": 1}
            )
            assert isinstance(answer, dict), answer
            assert [row["id"] for row in answer["rows"]] == [1], answer
            document = call(base, "GET", "/v2/namespaces/try/documents/1")
            assert isinstance(document, dict), document
            assert document["attributes"]["title"] == "a film", document
            subprocess.run([environment / "bin/python", "-c", CLIENT, base], cwd=folder, check=True, timeout=30)
        except BaseException:
            print(log.read_text(), file=sys.stderr)
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(STOP_SECONDS_MAX)
        if code != 0:
            raise SystemExit(f"hevlayer dev ended with code {code} after SIGTERM")
    print(
        f"dist: {wheel.name} works alone: wrote, queried and fetched a row through `hevlayer dev`, also by the client"
    )


if __name__ == "__main__":
    main()
