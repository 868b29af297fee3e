"""What an answer says about a write's effect."""

from hevlayer.errors import UpstreamError
from hevlayer.gateway.consistency import Outcome

REQUEST_TIMEOUT = 408
ACCEPTED = 202


def outcome_of(status: int, *, only_begun: bool = False) -> Outcome:
    """The outcome behind an upstream status; `only_begun`: a 2xx tells that the work has begun, as a 202 does.

    A 202 means that the work goes on behind it, a 408 that the upstream gave up on reading or doing it; a 5xx may come
    from a proxy on the way while the write goes on. A 429 is refused before the write starts.
    """
    if status == ACCEPTED or (only_begun and 200 <= status < 300):
        return Outcome.UNKNOWN
    if 200 <= status < 300:
        return Outcome.OK
    if 400 <= status < 500 and status != REQUEST_TIMEOUT:
        return Outcome.REFUSED
    return Outcome.UNKNOWN


def outcome_of_failure(error: UpstreamError) -> Outcome:
    """The outcome of a write that got no answer."""
    return Outcome.REFUSED if error.outcome_known else Outcome.UNKNOWN
