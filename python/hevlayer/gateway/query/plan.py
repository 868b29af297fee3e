"""How a query is read: one pure decision from the body's shape, what is known of the namespace, and the time."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from hevlayer.gateway.consistency import NamespaceView, Status


class Mode(Enum):
    """What the gateway adds to queries that do not choose their own consistency."""

    STRONG = "strong"
    EVENTUAL = "eventual"
    UPSTREAM = "upstream"


class Consistency(Enum):
    """How a query was read; the values of `x-layer-consistency`."""

    STABLE = "stable"
    FILTERED = "filtered"
    EVENTUAL = "eventual"
    UPSTREAM = "upstream"
    STALE_WATERMARK = "stale-watermark"


class Relay(NamedTuple):
    """Without a predicate. `eventual` asks the upstream for its eventual level; a 429 is answered by one more try with
    `retry_watermark_ms` when there is one."""

    consistency: Consistency
    eventual: bool
    retry_watermark_ms: int | None = None


class Filtered(NamedTuple):
    """At the eventual level, with rows stamped after `watermark_ms` hidden in every leg."""

    watermark_ms: int


Read = Relay | Filtered


class NearestToId(NamedTuple):
    """First the stored vectors of `ids`, then `read` by their mean."""

    ids: tuple[str | int, ...]
    read: Read


Plan = Relay | Filtered | NearestToId


class QueryShape(Protocol):
    """What the plan needs to know of a body."""

    @property
    def has_consistency(self) -> bool: ...

    @property
    def nearest_to_id(self) -> Sequence[str | int] | None: ...


AS_THE_UPSTREAM_DOES = Relay(Consistency.UPSTREAM, eventual=False)
_EVENTUAL = Relay(Consistency.EVENTUAL, eventual=True)
_STALE = Relay(Consistency.STALE_WATERMARK, eventual=True)
_STABLE = Relay(Consistency.STABLE, eventual=True)


def plan_query(shape: QueryShape, view: NamespaceView, mode: Mode, now_ms: int, watermark_age_ms_max: int) -> Plan:
    """The plan of one query."""
    read = plan_read(shape.has_consistency, view, mode, now_ms, watermark_age_ms_max)
    ids = shape.nearest_to_id
    return read if ids is None else NearestToId(tuple(ids), read)


def plan_read(has_consistency: bool, view: NamespaceView, mode: Mode, now_ms: int, watermark_age_ms_max: int) -> Read:
    """Which predicate and level a read gets."""
    if has_consistency or mode is Mode.UPSTREAM:
        return AS_THE_UPSTREAM_DOES
    if mode is Mode.EVENTUAL:
        return _EVENTUAL
    watermark = view.watermark_ms
    stable = view.status is Status.STABLE
    # The upstream refuses a filter on an attribute that its schema lacks; then no row has a stamp to filter on.
    if watermark is None or not view.stamped_in_schema:
        return _STABLE if stable else _EVENTUAL
    too_old = now_ms - watermark > watermark_age_ms_max
    if stable:
        return _STABLE if too_old else Relay(Consistency.STABLE, eventual=True, retry_watermark_ms=watermark)
    if view.status is Status.UPDATING:
        return _STALE if too_old else Filtered(watermark)
    return _EVENTUAL if too_old else Relay(Consistency.EVENTUAL, eventual=True, retry_watermark_ms=watermark)
