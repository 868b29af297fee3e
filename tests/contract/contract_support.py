"""What the contract scenarios stand on: targets to run against, a plain HTTP client, and matchers for JSON."""

import contextlib
import functools
import gzip
import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from contract_differences import STATUSES, take_additions

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
    is_gateway: bool = False

    def status(self, situation: str) -> int | None:
        """The status that this target answers with in a situation where origin and gateway are meant to differ."""
        return STATUSES[situation][self.is_gateway]


class Process:
    """A child process that writes JSON lines to standard output or error; `wait_for` waits until an event comes."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None, stream: str = "stdout") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hevlayer.cli.main", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "python"), **(env or {})},
            text=True,
            **{stream: subprocess.PIPE},
        )
        self.events: list[dict] = []
        self._came = threading.Condition()
        self._ended = False
        # Read to the end whoever waits: a full pipe would stop the child.
        self._reader = threading.Thread(target=self._read, args=(getattr(self._process, stream),), daemon=True)
        self._reader.start()

    def _read(self, lines: TextIO) -> None:
        with lines:
            for line in lines:
                with self._came:
                    self.events.append(_as_event(line))
                    self._came.notify_all()
        with self._came:
            self._ended = True
            self._came.notify_all()

    def wait_for(self, event: str) -> dict:
        with self._came:
            self._came.wait_for(lambda: self._find(event) or self._ended, START_TIMEOUT_SECONDS)
            found = self._find(event)
        assert found is not None, f"the process ended before {event!r}, or took too long; it said {self.events}"
        return found

    def _find(self, event: str) -> dict | None:
        return next((each for each in self.events if each["event"] == event), None)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_SECONDS)
        self._reader.join(STOP_TIMEOUT_SECONDS)

    def stop(self) -> int:
        """SIGTERM, then waits; kills after the time-out. Returns the exit status."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._reader.join(STOP_TIMEOUT_SECONDS)
        return self._process.returncode

    @property
    def running(self) -> bool:
        return self._process.poll() is None


def _as_event(line: str) -> dict:
    try:
        return {"event": None, **json.loads(line)}
    except ValueError:
        return {"event": None, "text": line}


@contextlib.contextmanager
def start_origin(data_dir: Path, *options: str) -> Iterator[Target]:
    process = Process("origin", "--port", "0", "--data-dir", str(data_dir), "--control", *options)
    try:
        url = process.wait_for("origin listening")["url"]
        yield Target("origin", url, control_url=f"{url}/_origin")
    finally:
        if process.running:
            process.stop()


@contextlib.contextmanager
def start_gateway(
    data_dir: Path, *options: str, name: str = "gateway", prefix: str = "", key: str = "", index_lag_ms: int = 0
) -> Iterator[Target]:
    """A gateway process in front of an origin process. With `key` clients must show it, and never the origin's."""
    with start_origin(data_dir / "origin", "--index-lag-ms", str(index_lag_ms)) as origin:
        env = {"LAYER_UPSTREAM_URL": origin.base_url, "LAYER_GATEWAY_API_KEY": key}
        env["TURBOPUFFER_API_KEY"] = origin.token if key else ""
        process = Process(
            *("gateway", "--port", "0", "--data-dir", str(data_dir / "gateway"), "--access-log", "off", *options),
            env=env,
            stream="stderr",
        )
        try:
            port = process.wait_for("gateway listening")["port"]
            yield Target(name, f"http://127.0.0.1:{port}{prefix}", origin.control_url, key or origin.token, True)
        finally:
            if process.running:
                process.stop()


TARGETS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Target]]] = {
    "origin": start_origin,
    "gateway": start_gateway,
    "keyed": functools.partial(start_gateway, name="keyed", key="gateway-key"),
    "regional": functools.partial(start_gateway, name="regional", prefix="/gcp-us-central1"),
}
# These differ from `gateway` in how a request comes in, so they run the scenarios of URLs, keys and namespaces only.
SMALL_RUN_TARGETS = frozenset({"keyed", "regional"})


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    added: frozenset[str] = frozenset()
    """Top-level keys that the gateway added; they were checked, and `json` leaves them out."""

    def json(self):
        parsed = json.loads(self.plain())
        return {key: value for key, value in parsed.items() if key not in self.added} if self.added else parsed

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
        received = Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, answer)
        if not self.target.is_gateway or received.status not in (200, 202):
            return received
        return replace(received, added=take_additions(method, path, received.json()))

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
