"""How a query is read: tables over the pure decision."""

from dataclasses import dataclass

import pytest

from hevlayer.gateway.consistency import COLD, NamespaceView, SchemaFacts, Status
from hevlayer.gateway.query.answer import TAIL_BYTES, stream_with_stable_as_of, with_stable_as_of
from hevlayer.gateway.query.plan import Consistency, Filtered, Mode, NearestToId, Relay, plan_query

NOW = 1_000_000
MAX = 10_000
FRESH, OLD = NOW - 5_000, NOW - MAX - 1


@dataclass(frozen=True)
class Shape:
    has_consistency: bool = False
    nearest_to_id: tuple[str | int, ...] | None = None


def view(status: Status, watermark: int | None, *, stamped: bool = True) -> NamespaceView:
    return NamespaceView(status=status, watermark_ms=watermark, schema=SchemaFacts(stamped=stamped))


STABLE, UPDATING, UNKNOWN = Status.STABLE, Status.UPDATING, Status.UNKNOWN


@pytest.mark.parametrize(
    ("seen", "plan"),
    [
        (COLD, Relay(Consistency.EVENTUAL, True)),
        (view(STABLE, None), Relay(Consistency.STABLE, True)),
        (view(STABLE, FRESH), Relay(Consistency.STABLE, True, FRESH)),
        (view(STABLE, OLD), Relay(Consistency.STABLE, True)),
        (view(STABLE, FRESH, stamped=False), Relay(Consistency.STABLE, True)),
        (view(UPDATING, None), Relay(Consistency.EVENTUAL, True)),
        (view(UPDATING, FRESH), Filtered(FRESH)),
        (view(UPDATING, NOW - MAX), Filtered(NOW - MAX)),
        (view(UPDATING, OLD), Relay(Consistency.STALE_WATERMARK, True)),
        (view(UPDATING, FRESH, stamped=False), Relay(Consistency.EVENTUAL, True)),
        (view(UNKNOWN, FRESH), Relay(Consistency.EVENTUAL, True, FRESH)),
    ],
)
def test_strong_mode(seen, plan):
    assert plan_query(Shape(), seen, Mode.STRONG, NOW, MAX) == plan


@pytest.mark.parametrize("seen", [COLD, view(UPDATING, FRESH), view(STABLE, FRESH), view(UPDATING, OLD)])
def test_the_other_modes_and_a_callers_own_choice_have_no_predicate(seen):
    assert plan_query(Shape(), seen, Mode.EVENTUAL, NOW, MAX) == Relay(Consistency.EVENTUAL, True)
    assert plan_query(Shape(), seen, Mode.UPSTREAM, NOW, MAX) == Relay(Consistency.UPSTREAM, False)
    for mode in Mode:
        assert plan_query(Shape(has_consistency=True), seen, mode, NOW, MAX) == Relay(Consistency.UPSTREAM, False)


def test_nearest_to_id_comes_before_the_read():
    plan = plan_query(Shape(nearest_to_id=("a", 2)), view(UPDATING, FRESH), Mode.STRONG, NOW, MAX)
    assert plan == NearestToId(("a", 2), Filtered(FRESH))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"rows":[]}', b'{"rows":[],"stable_as_of":5}'),
        (b'{"rows":[]} \n', b'{"rows":[],"stable_as_of":5} \n'),
        (b"{}", b'{"stable_as_of":5}'),
        (b" { } ", b'{"stable_as_of":5}'),
        (b"[1]", b"[1]"),
        (b"", b""),
        (b"  ", b"  "),
        (b"text", b"text"),
        (b'{"a":"' + b"x" * 200 + b'"}', b'{"a":"' + b"x" * 200 + b'","stable_as_of":5}'),
    ],
)
async def test_stable_as_of_in_a_body(body, told):
    assert b"".join(with_stable_as_of(body, 5)) == told
    for size in (1, 3, TAIL_BYTES, 1000):

        async def pieces(size=size):
            for start in range(0, len(body), size):
                yield body[start : start + size]

        assert b"".join([piece async for piece in stream_with_stable_as_of(pieces(), 5)]) == told
