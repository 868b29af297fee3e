"""When a failed request is sent again, and how long to wait: the rules of Turbopuffer's own client.

One thing is stricter. What would be done twice, such as starting a job, is sent again only where the server cannot have
taken it the first time.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from hevlayer.client.errors import HevlayerConnectionError, HevlayerError

_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})
# With these the server says that it has not begun.
_NOT_TAKEN = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_JITTER_SHARE = 0.25
_DOUBLINGS_MAX = 32


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a request is sent again.

    The pause doubles from `delay_min_seconds` to `delay_max_seconds`, less up to a quarter by chance. A `Retry-After`
    of at most `retry_after_max_seconds` is followed instead.
    """

    max_retries: int = 4
    delay_min_seconds: float = 0.25
    delay_max_seconds: float = 8.0
    retry_after_max_seconds: float = 1800.0
    # 0 or more, less than 1.
    chance: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise ValueError(f"max_retries must be 0 or more, not {self.max_retries}")

    def delay_seconds(
        self, failure: HevlayerError, *, retries: int, repeatable: bool, now: Callable[[], datetime] | None = None
    ) -> float | None:
        """How long to wait before the next attempt; None when there is none.

        Args:
            retries: how many there were.
            repeatable: doing it twice is as good as doing it once.
        """
        if retries >= self.max_retries or not _may_help(failure, repeatable=repeatable):
            return None
        headers = failure.response.headers if failure.response else {}
        asked = _retry_after_seconds(headers, now or _utc_now)
        if asked is not None and 0 < asked <= self.retry_after_max_seconds:
            return asked
        delay = min(self.delay_min_seconds * 2.0 ** min(retries, _DOUBLINGS_MAX), self.delay_max_seconds)
        return delay * (1 - _JITTER_SHARE * self.chance())


def _may_help(failure: HevlayerError, *, repeatable: bool) -> bool:
    if isinstance(failure, HevlayerConnectionError):
        return repeatable or not failure.request_sent
    if failure.response is None:
        return False
    status = failure.response.status_code
    match failure.response.headers.get("x-should-retry"):
        case "true":
            return True
        case "false":
            return False
    if not repeatable:
        return status in _NOT_TAKEN
    return status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _retry_after_seconds(headers: Mapping[str, str], now: Callable[[], datetime]) -> float | None:
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now().timestamp()


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _utc_now() -> datetime:
    return datetime.now(UTC)
