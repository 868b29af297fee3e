"""Lines that somebody else wrote into the bucket are passed over."""

import pytest

from hevlayer.gateway.history.entry import read_entry


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"timestamp_nanos":"soon"}',
        b'{"timestamp_nanos":1,"tags":["\xff"]}',
        b'{"timestamp_nanos":1,"trace_id":"\xc3"}',
        b'{"timestamp_nanos":1,"more":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_a_line_that_is_no_record(line):
    assert read_entry(line) is None
