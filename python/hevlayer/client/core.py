"""What a call does but for sending and waiting, which differ between the two classes."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hevlayer import __version__
from hevlayer.client.connection import Connection, Place
from hevlayer.client.direct import direct_request, layer_shape
from hevlayer.client.errors import HevlayerAnswerError, RawAnswer, request_id_of
from hevlayer.client.http import Request
from hevlayer.client.operation import COMPRESSED_BYTES_MIN, Operation, Prepared, compressed
from hevlayer.client.perf import LayerPerf, LayerResponse, perf_of
from hevlayer.client.retry import RetryPolicy

TIMEOUT_SECONDS_DEFAULT = 60.0
# The HTTP library cannot hold any number.
TIMEOUT_SECONDS_MAX = 86_400.0 * 365
MAX_RETRIES_DEFAULT = 4

_ResultT = TypeVar("_ResultT")
_log = logging.getLogger("hevlayer.client")


@dataclass(slots=True)
class Core:
    """What a client knows. `warned`: it has said once that it goes around the gateway."""

    connection: Connection
    timeout_seconds: float
    compression: bool
    retry: RetryPolicy
    user_agent: str
    clock: Callable[[], float] = time.perf_counter
    warned: bool = field(default=False)

    def request(self, prepared: Prepared, timeout_seconds: float | None, *, place: Place | None = None) -> Request:
        """The request as it goes to the gateway, or to `place`."""
        target = place or self.connection.gateway
        headers = {"user-agent": self.user_agent, "accept": "application/json", **prepared.headers}
        if not self.compression:
            headers["accept-encoding"] = "identity"
        if target.api_key:
            headers["authorization"] = f"Bearer {target.api_key}"
        content = prepared.content
        if self.compression and content is not None and len(content) > COMPRESSED_BYTES_MIN:
            content = compressed(content)
            headers["content-encoding"] = "gzip"
        return Request(
            prepared.method,
            target.base_url + prepared.target,
            headers,
            content,
            self.timeout_seconds if timeout_seconds is None else timeout_seconds,
        )

    def direct(self, operation: Operation[Any], prepared: Prepared) -> Prepared | None:
        """The request to Turbopuffer itself, where that may and can be asked."""
        return None if self.connection.turbopuffer is None else direct_request(operation, prepared)

    def warn_of_direct(self, reason: Exception) -> None:
        if not self.warned:
            self.warned = True
            _log.warning(
                "the gateway cannot be reached, asking Turbopuffer directly: no stable reads, cache or history (%s)",
                reason,
            )


@dataclass(frozen=True, slots=True)
class Received:
    """An answer with a success status, and how it came."""

    answer: RawAnswer
    attempts: int


def read_answer(
    operation: Operation[_ResultT], received: Received, prepared: Prepared, *, latency_ms: float, direct: bool
) -> LayerResponse[_ResultT]:
    """Raises: HevlayerAnswerError: the answer does not have the described shape."""
    answer = received.answer
    perf = perf_of(answer, latency_ms=latency_ms, attempts=received.attempts, direct=direct)
    try:
        data = operation.decode(answer.content)
    except (ValidationError, ValueError) as error:
        raise HevlayerAnswerError(
            f"{operation.name}: the answer does not have the described shape: {_reason(error)}",
            status_code=answer.status_code,
            request_id=request_id_of(answer),
            response=answer,
        ) from error
    if direct:
        layer_shape(prepared, data)
    _copy_headers(data, perf)
    return LayerResponse(data, perf)


def checked_timeout(timeout_seconds: float) -> float:
    """Raises: ValueError: it is not above 0, or above a year."""
    if not 0 < timeout_seconds <= TIMEOUT_SECONDS_MAX:
        raise ValueError(f"timeout_seconds must be above 0 and at most a year, not {timeout_seconds}")
    return timeout_seconds


def core_of(
    connection: Connection,
    *,
    timeout_seconds: float,
    compression: bool,
    max_retries: int,
    retry: RetryPolicy | None,
    kind: str,
) -> Core:
    policy = retry or replace(RetryPolicy(), max_retries=max_retries)
    agent = f"hevlayer-python/{__version__} ({kind})"
    return Core(connection, checked_timeout(timeout_seconds), compression, policy, agent)


def _copy_headers(data: Any, perf: LayerPerf) -> None:
    """Headers onto the fields of an answer that has them and says nothing itself."""
    if not isinstance(data, BaseModel):
        return
    found: Mapping[str, Any] = {"stable_as_of": perf.stable_as_of, "next_cursor": perf.next_cursor}
    for name, value in found.items():
        if value is not None and name in type(data).model_fields and getattr(data, name) is None:
            setattr(data, name, value)


def _reason(error: Exception) -> str:
    """The first thing that is wrong, and where."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'body'}: {first['msg']}"
    return str(error)
