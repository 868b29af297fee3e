"""The parameters of a list, rule by rule."""

import pytest

from hevlayer.errors import ValidationError
from hevlayer.gateway.history.entry import Feed
from hevlayer.gateway.history.reader import NANOS_MAX
from hevlayer.gateway.history.routes import read_moment, read_wanted

SECOND = 1_000_000_000
EIGHT = 1779436800 * SECOND


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("2026-05-22T08:00:00Z", EIGHT),
        ("2026-05-22t08:00:00z", EIGHT),
        ("2026-05-22T10:00:00+02:00", EIGHT),
        ("2026-05-22T10:00:00 02:00", EIGHT),
        ("2026-05-22T03:30:00-04:30", EIGHT),
        ("2026-05-22T08:00:00.143Z", EIGHT + 143_000_000),
        ("2026-05-22T08:00:00.123456789Z", EIGHT + 123_456_789),
        ("2026-05-22T08:00:00.1234567899Z", EIGHT + 123_456_789),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59Z", 0),
        ("9999-12-31T23:59:59Z", NANOS_MAX),
    ],
)
def test_moments(text, nanos):
    assert read_moment(text, "from") == nanos


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-05-22", "2026-05-22T08:00Z", "2026-05-22T08:00:00", "2026-13-22T08:00:00Z", "1779436800",
     "2026-05-22T25:00:00Z", "0001-01-01T00:00:00+23:59", "2026-05-22T08:00:00+24:00",
     "2026-05-22T08:00:00+01:60", "٢٠٢٦-05-22T08:00:00Z"],
)  # fmt: skip
def test_what_is_no_moment(text):
    with pytest.raises(ValidationError, match="from must be an RFC 3339 time"):
        read_moment(text, "from")


def wanted(**given):
    return read_wanted(Feed.SEARCHES, "films", "", {name.rstrip("_"): value for name, value in given.items()})


def test_nothing_asked_is_the_newest_fifty():
    read = wanted()
    assert (read.limit, read.from_nanos, read.until_nanos, read.tags, read.trace_id) == (
        50,
        0,
        NANOS_MAX,
        frozenset(),
        "",
    )
    assert wanted(limit="", tag="", before="", from_="", to="", trace_id="") == read


def test_bounds_are_inclusive_and_before_is_not():
    read = wanted(from_="2026-05-22T08:00:00Z", to="2026-05-22T08:00:01Z")
    assert (read.from_nanos, read.until_nanos) == (EIGHT, EIGHT + SECOND + 1)
    assert wanted(before="5").until_nanos == 5
    assert wanted(before=str(EIGHT), to="2026-05-22T08:00:01Z").until_nanos == EIGHT
    assert wanted(before=str(EIGHT + 9 * SECOND), to="2026-05-22T08:00:01Z").until_nanos == EIGHT + SECOND + 1


@pytest.mark.parametrize(("text", "limit"), [("1", 1), ("500", 500), ("501", 500), ("100000", 500)])
def test_a_limit_is_capped(text, limit):
    assert wanted(limit=text).limit == limit


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"limit": "0"}, "limit must be an integer of at least 1"),
        ({"limit": "-1"}, "limit must be"),
        ({"limit": "1.5"}, "limit must be"),
        ({"limit": "²"}, "limit must be"),
        ({"limit": "9" * 5000}, "limit must be"),
        ({"before": "now"}, "before must be"),
        ({"before": "-5"}, "before must be"),
        ({"tag": "a b"}, "tag: "),
        ({"trace_id": "xyz"}, "trace_id must be 32"),
        ({"from_": "2026-05-22T08:00:01Z", "to": "2026-05-22T08:00:00Z"}, "from must not be later than to"),
        ({"to": "soon"}, "to must be an RFC 3339"),
    ],
)
def test_what_is_refused(given, rule):
    with pytest.raises(ValidationError, match=rule):
        wanted(**given)


def test_a_trace_id_may_have_hyphens_and_capitals():
    assert wanted(trace_id="F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6").trace_id == "f81d4fae7dec11d0a76500a0c91e6bf6"
