"""The errors that the client raises. Every one is a HevlayerError."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An HTTP answer as it came. Names of headers are in lower case."""

    status_code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """Raises: ValueError: the body is not JSON."""
        return json.loads(self.content)


class HevlayerError(Exception):
    """A call that failed.

    Attributes:
        status_code: of the answer; None when there was none.
        error: a word for programs, such as `not_found`; the upstream's text where the error is the upstream's.
        message: for people; the whole body where the answer has no `message`.
        feature: what is missing, where the server says so.
        request_id: finds the request in the server's log: its request id, else its trace id.
        response: the answer as it came; None when there was none.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        error: str | None = None,
        feature: str | None = None,
        request_id: str | None = None,
        response: RawAnswer | None = None,
    ) -> None:
        super().__init__(message if status_code is None else f"{status_code}: {message}")
        self.message = message
        self.status_code = status_code
        self.error = error
        self.feature = feature
        self.request_id = request_id
        self.response = response


class HevlayerConnectionError(HevlayerError):
    """No whole answer came. `request_sent`: the server may have seen the request, and done what it says."""

    def __init__(self, message: str, *, request_sent: bool) -> None:
        super().__init__(message)
        self.request_sent = request_sent


class HevlayerTimeoutError(HevlayerConnectionError):
    """No whole answer came in time."""


class HevlayerAnswerError(HevlayerError):
    """The server's answer is not what the API describes."""


class HevlayerJobError(HevlayerError):
    """A job that was waited for has failed; `message` is its own error. `job` is the job."""

    def __init__(self, message: str, *, job: Any) -> None:
        super().__init__(message)
        self.job = job


class HevlayerWaitError(HevlayerError):
    """A job that was waited for did not end in the time given. It goes on; `job` is its last state."""

    def __init__(self, message: str, *, job: Any) -> None:
        super().__init__(message)
        self.job = job


def error_of(answer: RawAnswer) -> HevlayerError:
    """The error that an answer with an error status tells of."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {}
    return HevlayerError(
        _text(body, "message") or answer.text or "the answer has no body",
        status_code=answer.status_code,
        error=_text(body, "error"),
        feature=_text(body, "feature"),
        request_id=_text(body, "request_id") or request_id_of(answer),
        response=answer,
    )


def request_id_of(answer: RawAnswer) -> str | None:
    """The header `x-request-id`, else the trace id of `traceparent`."""
    return answer.headers.get("x-request-id") or trace_id_of(answer)


def trace_id_of(answer: RawAnswer) -> str | None:
    """The trace id of the W3C header `traceparent`."""
    parts = answer.headers.get("traceparent", "").split("-")
    return parts[1] if len(parts) >= 4 else None


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) else None
