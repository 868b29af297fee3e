"""Requests to one target: what the load needs of the API, on a client that costs little time itself."""

import random
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from hevlayer.bench.data import Call
from hevlayer.bench.plan import BenchPlan, Kind, Operation, Target
from hevlayer.bench.tally import SUCCESS
from hevlayer.clock import Backoff, Clock
from hevlayer.http.client import HttpClient
from hevlayer.http.client_config import ClientConfig, Origin
from hevlayer.http.client_response import ClientResponse
from hevlayer.http.errors import ConnectError, ConnectionReset, FirstByteTimeout, HttpClientError, TotalTimeout

ANSWER_BYTES_MAX = 64 * 1024 * 1024
EXCERPT_CHARACTERS = 300
ATTEMPTS_MAX = 5
RETRY = Backoff(initial_seconds=0.25, cap_seconds=4.0)
PASSING = frozenset({408, 409, 429, 500, 502, 503, 504})
NOT_FOUND = 404
_CACHE_HEADER = b"x-layer-cache"


class BenchError(Exception):
    """The run cannot go on. `unreachable` tells a target that did not answer from one that refused."""

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request: an HTTP status in digits, or a failure's name. `cache` is the answer's status."""

    name: str
    succeeded: bool
    cache: str | None = None


def failure_of(error: BaseException) -> str:
    """The name under which a request without an answer is counted."""
    match error:
        case ConnectError():
            return "unreachable"
        case FirstByteTimeout() | TotalTimeout() | TimeoutError():
            return "timeout"
        case ConnectionReset():
            return "reset"
        case _:
            return "broken answer"


class Endpoint:
    """One target and its namespace. `close` ends the connections."""

    def __init__(self, target: Target, namespace: str, plan: BenchPlan, clock: Clock) -> None:
        self.target = target
        self.namespace = namespace
        self._clock = clock
        self._rng = random.Random()  # noqa: S311 -- jitter, not a secret
        self.requests = 0
        """Requests sent to prepare and to clean up, repeated ones included."""
        prefix = urlsplit(target.url).path.rstrip("/")
        self._path = f"{prefix}/v2/namespaces/{namespace}".encode()
        self._metadata = f"{prefix}/v1/namespaces/{namespace}/metadata".encode()
        headers = [(b"accept", b"application/json"), (b"user-agent", b"layer-bench")]
        if target.key:
            headers.append((b"authorization", f"Bearer {target.key}".encode()))
        self._bodyless = headers
        self._headers = [*headers, (b"content-type", b"application/json")]
        config = ClientConfig(
            connections_max=plan.concurrency,
            idle_connections_max=plan.concurrency,
            idle_timeout_seconds=max(30.0, 4 * plan.slice_seconds),
            connect_timeout_seconds=min(5.0, plan.timeout_seconds),
            pool_timeout_seconds=plan.timeout_seconds,
            first_byte_timeout_seconds=plan.timeout_seconds,
            total_timeout_seconds=plan.timeout_seconds,
        )
        self._client = HttpClient(Origin.parse(target.url), config, clock)

    async def perform(self, call: Call) -> Outcome:
        """Sends one call of the load. Never raises for what the target does."""
        try:
            response = await self._dispatch(call)
            # A body that is read to its end leaves the connection free for the next request.
            await response.read(ANSWER_BYTES_MAX)
        except (HttpClientError, ValueError) as error:
            return Outcome(failure_of(error), succeeded=False)
        cache = response.header(_CACHE_HEADER)
        return Outcome(str(response.status), response.status in SUCCESS, cache.decode("latin-1") if cache else None)

    async def _dispatch(self, call: Call) -> ClientResponse:
        if call.operation is Operation.WRITE:
            return await self._client.request("POST", self._path, self._headers, call.body)
        if call.operation is Operation.FETCH and self.target.kind is Kind.GATEWAY:
            return await self._client.request("GET", b"%b/documents/%d" % (self._path, call.row_id), self._bodyless)
        return await self._client.request("POST", self._path + b"/query", self._headers, call.body)

    async def write(self, body: bytes) -> None:
        """Raises: BenchError: the target did not take it."""
        await self._must("load documents", "POST", self._path, body)

    async def is_indexed(self) -> bool:
        """Whether the upstream has indexed what was written. Raises: BenchError."""
        answer = await self._must("read the namespace's metadata", "GET", self._metadata)
        try:
            metadata = orjson.loads(answer)
        except ValueError as error:
            raise BenchError(f"{self.target.name}: the metadata of the namespace is not JSON") from error
        index = metadata.get("index") if isinstance(metadata, dict) else None
        return not isinstance(index, dict) or index.get("status") != "updating"

    async def drop(self) -> None:
        """Deletes the namespace, and behind a gateway its record too. Raises: BenchError: it may still be there."""
        query = b"?purge_history=true" if self.target.kind is Kind.GATEWAY else b""
        await self._must("delete the namespace", "DELETE", self._path + query, absent_ok=True)

    async def _must(
        self, purpose: str, method: str, path: bytes, body: bytes = b"", *, absent_ok: bool = False
    ) -> bytes:
        """The body of a successful answer; refusals that may pass are tried again a few times."""
        failure = ""
        unreachable = False
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                await self._clock.sleep(RETRY.delay(attempt - 1, self._rng))
            try:
                headers = self._headers if body else self._bodyless
                self.requests += 1
                response = await self._client.request(method, path, headers, body)
                answer = await response.read(ANSWER_BYTES_MAX)
            except (HttpClientError, ValueError) as error:
                failure, unreachable = f"{failure_of(error)}: {error}", True
                continue
            if response.status in SUCCESS or (absent_ok and response.status == NOT_FOUND):
                return answer
            failure, unreachable = f"status {response.status}: {excerpt(answer)}", False
            if response.status not in PASSING:
                break
        raise BenchError(f"{self.target.name}: cannot {purpose}: {failure}", unreachable=unreachable)

    @property
    def reached(self) -> bool:
        """Whether a connection was ever opened; if not there is nothing to clean up."""
        return self._client.opened > 0

    def take_requests(self) -> int:
        """How many requests were sent to prepare or to clean up since the last call."""
        taken, self.requests = self.requests, 0
        return taken

    async def close(self) -> None:
        await self._client.close()


def excerpt(body: bytes) -> str:
    """The head of an answer as text for a person."""
    text = " ".join(body.decode("utf-8", "replace").split())
    return text if len(text) <= EXCERPT_CHARACTERS else text[:EXCERPT_CHARACTERS] + "…"
