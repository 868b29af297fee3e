"""`hevlayer dev` as a user starts it: a process of its own, on free ports."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import turbopuffer

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60
CALL_SECONDS_MAX = 60
POLL_SECONDS = 0.02
API_KEY = "tpuf_anything"
# What is set on the machine that runs the tests must not reach the process under test.
CLEARED_PREFIXES = ("LAYER_", "TURBOPUFFER_", "CONSISTENCY_", "NAMESPACE_LIST_", "METRICS_BACKEND_", "DATABASE_URL")
HEVLAYER = (sys.executable, "-m", "hevlayer.cli.main")


def environment(**changes: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(CLEARED_PREFIXES)}
    return {**inherited, **changes}


def run_hevlayer(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [*HEVLAYER, *arguments],
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=START_SECONDS_MAX,
        check=False,
    )


class Dev:
    """A running `hevlayer dev`. Use as a context manager; leaving it stops the process and wants status 0."""

    def __init__(self, data_dir: Path, *arguments: str, **changes: str) -> None:
        self.log = data_dir.with_name(f"{data_dir.name}-{time.monotonic_ns()}.log")
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                [*HEVLAYER, "dev", "--port", "0", "--origin-port", "0", "--data-dir", str(data_dir), *arguments],
                env=environment(**changes),
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
        try:
            self.events = self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        self.url: str = self.events["ready"]["url"]
        self.origin_url: str = self.events["origin listening"]["url"]

    def _wait_until_ready(self) -> dict[str, dict[str, Any]]:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            # The process writes while we read: its last line may be half a line. A traceback is no event.
            lines = [line for line in self.output().rpartition("\n")[0].splitlines() if line.startswith("{")]
            events = {event["event"]: event for event in map(json.loads, lines)}
            if "ready" in events:
                return events
            assert self.process.poll() is None, f"dev ended with {self.process.returncode}:\n{self.output()}"
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"dev was not ready within {START_SECONDS_MAX} s:\n{self.output()}")

    def output(self) -> str:
        return self.log.read_text()

    def __enter__(self) -> "Dev":
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if self.process.poll() is None:
            status = self.stop()
            assert failure or status == 0, self.output()

    def stop(self) -> int:
        """SIGTERM. Returns: the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def kill(self) -> None:
        """As a power cut does: no handler runs."""
        self.process.kill()
        self.process.wait(STOP_SECONDS_MAX)

    def client(self, api_key: str = API_KEY) -> turbopuffer.Turbopuffer:
        """The vendor's client. It never repeats a request, so that each outcome is the one of its only attempt."""
        return turbopuffer.Turbopuffer(
            base_url=self.url, api_key=api_key, max_retries=0, timeout=CALL_SECONDS_MAX
        )  # fmt: skip

    def call(
        self, method: str, path: str, body: object = None, *, base_url: str = "", api_key: str = API_KEY
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers (in lower case) and the answer, decoded when it is JSON."""
        request = urllib.request.Request(
            (base_url or self.url) + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {api_key}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS_MAX) as answer:
                status, headers, content = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, headers, content = error.code, error.headers, error.read()
        lowered = {name.lower(): value for name, value in headers.items()}
        if lowered.get("content-type", "").startswith("application/json"):
            return status, lowered, json.loads(content)
        return status, lowered, content.decode()

    def fetch(self, namespace: str, document_id: str) -> tuple[dict[str, Any] | None, str]:
        """The attributes of a document and where they came from (hit, miss); None and "" when there is none."""
        status, headers, answer = self.call("GET", f"/v2/namespaces/{namespace}/documents/{document_id}")
        assert status in (200, 404), answer
        return (answer["attributes"] if status == 200 else None), headers.get("x-layer-cache", "")

    def set_faults(self, *rules: dict[str, Any]) -> None:
        status, _, answer = self.call(
            "PUT", "/_origin/faults", {"rules": list(rules), "seed": 1}, base_url=self.origin_url
        )
        assert status == 200, answer
