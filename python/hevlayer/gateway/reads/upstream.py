"""Our own reads of the upstream: under a permit, within their deadlines, and repeated only for background work."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from hevlayer.clock import Backoff, Clock
from hevlayer.errors import UpstreamError
from hevlayer.gateway.auth import Credential
from hevlayer.gateway.permits import QUERY_COST, PermitLedger
from hevlayer.stores.turbopuffer import AnswerTooLongError, namespace_path

READ_ATTEMPTS_MAX = 6
RETRY_BACKOFF = Backoff(initial_seconds=0.25, cap_seconds=8.0)
_AGAIN_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_REASON_CHARS_MAX = 500


class RefusedReadError(UpstreamError):
    """The upstream answered one of our reads with an error. `answer` is its body, for callers to whom it is relayed."""

    def __init__(self, answered: int, answer: bytes) -> None:
        super().__init__(f"the upstream answered {answered}: {_reason(answer)}", outcome_known=True)
        self.answered = answered
        self.answer = answer


def _reason(answer: bytes) -> str:
    try:
        told = orjson.loads(answer)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        told = answer.decode("utf-8", "replace")
    return str(told)[:_REASON_CHARS_MAX]


class ReadUpstream(Protocol):
    """The part of the upstream that reads need."""

    async def read(
        self, method: str, target: bytes, bearer: bytes | None, body: bytes = b"", *, traceparent: bytes = b""
    ) -> tuple[int, bytes]: ...


@dataclass(frozen=True, slots=True)
class ReadTarget:
    """Whose namespace is read, under which bearer, and for what: `job` is empty for a read that a request waits for."""

    namespace: str
    scope: bytes
    bearer: bytes | None = field(repr=False)
    job: str = ""
    traceparent: bytes = b""

    @classmethod
    def of(cls, namespace: str, credential: Credential, *, job: str = "", traceparent: bytes = b"") -> "ReadTarget":
        return cls(namespace, credential.scope, credential.bearer, job, traceparent)


class Reads:
    """Sends reads of ours."""

    def __init__(
        self, upstream: ReadUpstream, ledger: PermitLedger, clock: Clock, *, rng: random.Random | None = None
    ) -> None:
        self._upstream = upstream
        self._ledger = ledger
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 -- jitter, not a secret

    async def query(self, target: ReadTarget, body: bytes, *, cost: int = QUERY_COST) -> bytes:
        """The answer of a query on the target's namespace that the upstream answered with 200.

        A job's read is repeated, with a growing pause, while the upstream is busy or cannot be reached.

        Raises: RefusedReadError; AnswerTooLongError; UpstreamError, GatewayTimeoutError: no answer. PermitTimeoutError.
        """
        path = namespace_path(target.namespace) + b"/query"
        attempts = READ_ATTEMPTS_MAX if target.job else 1
        for attempt in range(attempts):
            try:
                return await self._once(target, path, body, cost)
            except UpstreamError as error:
                if not _may_pass(error) or attempt + 1 == attempts:
                    raise
            # The permit is free while we wait.
            await self._clock.sleep(RETRY_BACKOFF.delay(attempt, self._rng))
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, target: ReadTarget, path: bytes, body: bytes, cost: int) -> bytes:
        if target.job:
            permit = self._ledger.background(target.namespace, target.scope, target.job, cost)
        else:
            permit = self._ledger.foreground(target.namespace, target.scope, cost)
        async with permit:
            status, answer = await self._upstream.read(
                "POST", path, target.bearer, body, traceparent=target.traceparent
            )
        if status != 200:
            raise RefusedReadError(status, answer)
        return answer

    async def metadata(self, target: ReadTarget) -> Mapping[str, Any]:
        """The namespace's metadata. Raises: as `query`."""
        path = namespace_path(target.namespace) + b"/metadata"
        status, answer = await self._upstream.read("GET", path, target.bearer, traceparent=target.traceparent)
        if status != 200:
            raise RefusedReadError(status, answer)
        return read_object(answer)


def _may_pass(error: UpstreamError) -> bool:
    """Whether the same read may succeed later."""
    if isinstance(error, RefusedReadError):
        return error.answered in _AGAIN_STATUSES
    return not isinstance(error, AnswerTooLongError)


def read_object(answer: bytes) -> dict[str, Any]:
    """Raises: UpstreamError: the answer is not a JSON object."""
    try:
        decoded = orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise UpstreamError("the upstream's answer is not JSON") from error
    if not isinstance(decoded, dict):
        raise UpstreamError("the upstream's answer is not a JSON object")
    return decoded
