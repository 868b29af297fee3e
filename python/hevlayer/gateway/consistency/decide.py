"""The watcher's decisions, without I/O: what an answered poll means and when the next one is due."""

from dataclasses import dataclass, replace
from typing import TypeAlias

import orjson

from hevlayer.gateway.consistency.facts import read_schema
from hevlayer.gateway.consistency.view import COLD, NamespaceView, Status

# A poll and a write may share a millisecond; without this the write would count as covered.
SAFETY_MARGIN_MS_MIN = 1
POLL_BACKOFF_SECONDS_MAX = 60.0
# A namespace in use waits no longer than this for the upstream to come back.
FAILURE_BACKOFF_SECONDS_MAX = 10.0
RECENT_USE_SECONDS = 60.0
# `up-to-date` is evidence for this long when no later poll is answered.
STABLE_SECONDS_MAX = 30.0
POLL_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """The poll was answered. `recreated`: another namespace has the name now."""

    view: NamespaceView
    recreated: bool


@dataclass(frozen=True, slots=True)
class Gone:
    """The upstream has no such namespace."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The poll says nothing. `reason` is a metric label."""

    reason: str


PollResult: TypeAlias = Seen | Gone | Failed


def plan_watermark(poll_start_ms: int, margin_ms: int, floor_ms: int | None) -> int | None:
    """The cut that a poll saying up-to-date proves; None when writes in flight leave no positive cut.

    Args:
        poll_start_ms: by the stamper's clock, read before the poll was sent.
        floor_ms: oldest stamp in flight at any moment of the poll.
    """
    cut = poll_start_ms - max(margin_ms, SAFETY_MARGIN_MS_MIN)
    if floor_ms is not None:
        cut = min(cut, floor_ms - 1)
    return cut if cut > 0 else None


def judge_poll(
    before: NamespaceView, status: int, body: bytes, *, poll_start_ms: int, floor_ms: int | None, margin_ms: int
) -> PollResult:
    """What one answer of `GET /v2/namespaces/{ns}/metadata` means."""
    if status == 404:
        return Gone()
    if status in (401, 403):
        return Failed("refused")
    if status == 429:
        return Failed("throttled")
    if status != 200:
        return Failed("upstream_error")
    try:
        metadata = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Failed("bad_answer")
    if not isinstance(metadata, dict):
        return Failed("bad_answer")
    index = metadata.get("index")
    state = index.get("status") if isinstance(index, dict) else None
    # A state that a newer upstream may invent is evidence of neither: reads then run without a predicate.
    now_status = {"up-to-date": Status.STABLE, "updating": Status.UPDATING}.get(str(state), Status.UNKNOWN)
    created_at = _text(metadata.get("created_at"))
    recreated = before.created_at is not None and created_at is not None and created_at != before.created_at
    kept = COLD if recreated else before
    watermark = kept.watermark_ms
    if now_status is Status.STABLE:
        cut = plan_watermark(poll_start_ms, margin_ms, floor_ms)
        if cut is not None and (watermark is None or cut > watermark):
            watermark = cut
    view = replace(
        kept,
        status=now_status,
        watermark_ms=watermark,
        polled_at_ms=poll_start_ms,
        created_at=created_at or kept.created_at,
        schema=read_schema(metadata.get("schema")),
        unindexed_bytes=_integer(index.get("unindexed_bytes")) if isinstance(index, dict) else None,
        logical_bytes=_integer(metadata.get("approx_logical_bytes")),
    )
    return Seen(view, recreated)


def after_failure(view: NamespaceView, now_ms: int) -> NamespaceView:
    """What is still known when a poll says nothing: an old `stable` is no evidence, an old `updating` stays careful."""
    polled_at = view.polled_at_ms
    if view.status is Status.STABLE and polled_at is not None and now_ms - polled_at > STABLE_SECONDS_MAX * 1000:
        return replace(view, status=Status.UNKNOWN)
    return view


def plan_delay(
    status: Status,
    *,
    idle_seconds: float,
    failures: int,
    previous_seconds: float,
    interval_seconds: float,
    writing: bool,
    jitter: float,
) -> float:
    """Seconds until the next poll.

    Args:
        idle_seconds: since the namespace was last used.
        failures: polls in a row that said nothing.
        writing: a write has no definite answer yet.
        jitter: in 0..1; spreads namespaces that were registered together.
    """
    slow = max(interval_seconds, POLL_BACKOFF_SECONDS_MAX)
    in_use = status is Status.UPDATING or writing or idle_seconds < RECENT_USE_SECONDS
    if failures:
        longest = max(interval_seconds, FAILURE_BACKOFF_SECONDS_MAX) if in_use else slow
        # The exponent is capped first: 2 ** failures of a day-long outage does not fit a float.
        delay = min(longest, interval_seconds * 2.0 ** min(failures, 16))
    elif in_use:
        delay = interval_seconds
    else:
        delay = min(slow, max(previous_seconds, interval_seconds) * 2.0)
    return delay * (1.0 - POLL_JITTER * jitter)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
