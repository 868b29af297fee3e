"""What the contract scenarios stand on: targets to run against, a plain HTTP client, and matchers for JSON."""

import contextlib
import gzip
import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

START_TIMEOUT_SECONDS = 30
STOP_TIMEOUT_SECONDS = 30
CALL_TIMEOUT_SECONDS = 30
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Target:
    """Something that serves the API. `control_url` is the origin's control route behind it, when there is one."""

    name: str
    base_url: str
    control_url: str | None = None
    token: str = "tpuf_contract"


class Process:
    """A child process that prints JSON lines; `wait_for` reads them until an event comes."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hevlayer.cli.main", *arguments],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "python"), **(env or {})},
            text=True,
        )
        self.events: list[dict] = []

    def wait_for(self, event: str) -> dict:
        # A child that hangs before its start line is killed, which ends the loop below.
        guard = threading.Timer(START_TIMEOUT_SECONDS, self._process.kill)
        guard.start()
        try:
            for line in self._process.stdout:
                self.events.append(json.loads(line))
                if self.events[-1]["event"] == event:
                    return self.events[-1]
        finally:
            guard.cancel()
        raise AssertionError(f"the process ended before {event!r}; it said {self.events}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_SECONDS)
        self._process.stdout.close()

    def stop(self) -> int:
        """SIGTERM, then waits; kills after the time-out. Returns the exit status."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self.events += [json.loads(line) for line in self._process.stdout]
        self._process.stdout.close()
        return self._process.returncode

    @property
    def running(self) -> bool:
        return self._process.poll() is None


@contextlib.contextmanager
def start_origin(data_dir: Path, *options: str) -> Iterator[Target]:
    process = Process("origin", "--port", "0", "--data-dir", str(data_dir), "--control", *options)
    try:
        url = process.wait_for("origin listening")["url"]
        yield Target("origin", url, control_url=f"{url}/_origin")
    finally:
        if process.running:
            process.stop()


# A process that serves the API in front of the origin joins the suite by an entry here.
TARGETS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Target]]] = {"origin": start_origin}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.plain())

    def plain(self) -> bytes:
        return gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body

    @property
    def error(self) -> str:
        """The message of an error answer, which must have the upstream's shape."""
        assert self.headers["content-type"] == "application/json"
        parsed = self.json()
        assert parsed["status"] == "error"
        assert isinstance(parsed["error"], str)
        return parsed["error"]


class Api:
    """One keep-alive connection. Bodies are JSON values, bytes for broken ones, or iterators of bytes to be chunked."""

    def __init__(self, target: Target) -> None:
        self.target = target
        parts = urlsplit(target.base_url)
        self._prefix = parts.path
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=CALL_TIMEOUT_SECONDS)

    def call(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        sent = {"accept": "application/json", "authorization": f"Bearer {self.target.token}", **(headers or {})}
        sent = {name: value for name, value in sent.items() if value is not None}
        payload = None
        if body is not None:
            is_wire = isinstance(body, (bytes, Iterator))
            payload = body if is_wire else json.dumps(body, ensure_ascii=False).encode()
            sent.setdefault("content-type", "application/json")
        try:
            self._connection.request(
                method, self._prefix + path, payload, sent, encode_chunked=isinstance(payload, Iterator)
            )
            response = self._connection.getresponse()
            answer = response.read()
        except (http.client.HTTPException, OSError):
            self._connection.close()
            raise
        return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, answer)

    def close(self) -> None:
        self._connection.close()

    def ok(self, method: str, path: str, body: object = None, status: int = 200):
        answer = self.call(method, path, body)
        assert answer.status == status, answer.body.decode()
        return answer.json()

    def write(self, ns: str, **body: object):
        return self.ok("POST", f"/v2/namespaces/{ns}", body)

    def query(self, ns: str, **body: object):
        return self.ok("POST", f"/v2/namespaces/{ns}/query", body)

    def rows(self, ns: str, **body: object) -> list[dict]:
        body.setdefault("limit", 10_000)
        body.setdefault("rank_by", ["id", "asc"])
        return self.query(ns, **body)["rows"]

    def ids(self, ns: str, **body: object) -> list:
        return [row["id"] for row in self.rows(ns, **body)]

    def refused(self, status: int, method: str, path: str, body: object = None) -> str:
        """The message of a refusal, whose status is checked."""
        answer = self.call(method, path, body)
        assert answer.status == status, answer.body.decode()
        return answer.error


class Whole:
    """Equals any integer of at least `minimum`."""

    def __init__(self, minimum: int = 0) -> None:
        self.minimum = minimum

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and not isinstance(other, bool) and other >= self.minimum

    def __hash__(self) -> int:
        return hash(self.minimum)

    def __repr__(self) -> str:
        return f"Whole({self.minimum})"


class Text:
    """Equals any non-empty string."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and bool(other)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "Text()"
