"""Asks the upstream which rows a write touched, when only it can tell, and hides the question from the caller."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from hevlayer.http.errors import HttpClientError
from hevlayer.kernels.splice import SpliceError, WriteScan, affected_ids
from hevlayer.stores.turbopuffer import Answer, Upstream, upstream_error
from hevlayer.wire.headers import without

ASK = b'"return_affected_ids":true,'
# A longer answer goes to the caller as it came, and its ids count as not told.
ANSWER_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Affected:
    """Cache keys of the ids that the upstream says it wrote, and which of them do not exist any more."""

    keys: Sequence[bytes]
    deleted: Sequence[bytes]


def is_told_upstream(scan: WriteScan) -> bool:
    """Whether only the upstream knows which rows a write changes."""
    return scan.by_filter or scan.conditional


def plan_ask(scan: WriteScan) -> bool:
    """Whether to ask in the caller's place; a caller who said yes or no is taken at its word."""
    return is_told_upstream(scan) and scan.affected_ids is None


def asking(body: bytes) -> bytes:
    """A write's body, an object with at least one member, with the question put first."""
    at = body.index(b"{") + 1
    return b"".join((body[:at], ASK, body[at:]))


async def asking_pieces(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """As `asking`, of a body in pieces."""
    asked = False
    async for piece in pieces:
        at = -1 if asked else piece.find(b"{")
        if at < 0:
            yield piece
        else:
            asked = True
            yield asking(piece)


async def read_affected(upstream: Upstream, answer: Answer, *, strip: bool) -> tuple[Answer, Affected | None]:
    """The answer to a write that went well, and what it says was changed; None when it does not say all.

    Args:
        strip: we asked, not the caller, who does not get the lists of ids.
    Raises: UpstreamError: the answer broke off.
    """
    collected = await _collected(answer)
    if collected.stream is not None:
        return collected, None
    body = await upstream.whole(collected)
    try:
        keys, deleted, stripped = affected_ids(body)
    except SpliceError:
        return collected, None
    if strip:
        headers = without(without(answer.headers, b"content-encoding"), b"content-length")
        collected = Answer(answer.status, headers, stripped)
    return collected, None if keys is None else Affected(keys, deleted)


async def _collected(answer: Answer) -> Answer:
    """The answer with its body in memory, or as a stream when it is too long for that."""
    stream = answer.stream
    if stream is None:
        return answer
    parts: list[bytes] = []
    size = 0
    try:
        async for part in stream:
            parts.append(part)
            size += len(part)
            if size > ANSWER_BYTES_MAX:
                stream.unread(parts)
                return answer
    except HttpClientError as error:
        raise upstream_error(error) from error
    return Answer(answer.status, answer.headers, b"".join(parts))
