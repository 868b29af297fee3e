"""Bodies that are not JSON, or that try to break the reader."""

import pytest
from splice_calls import refusal, stamped

from hevlayer.kernels import reference


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize("depth", [127, 128])
def test_nesting_up_to_the_limit(depth: int) -> None:
    assert stamped(nested(depth)) == nested(depth)
    objects = b'{"a":' * depth + b"1" + b"}" * depth
    assert stamped(objects) is objects


@pytest.mark.parametrize("depth", [129, 1_000_000])
def test_nesting_beyond_the_limit(depth: int) -> None:
    for body in (nested(depth), b'{"upsert_rows":' * depth, b"[" * depth):
        for query in (False, True):
            code, message = refusal(body, query=query)
            assert code == "bad_json"
            assert "recursion limit exceeded" in message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "EOF while parsing a value at line 1 column 0"),
        (b'{"a":1', "EOF while parsing an object at line 1 column 6"),
        (b'{"a":[1', "EOF while parsing a list at line 1 column 7"),
        (b'{"a":tru}', "expected ident at line 1 column 9"),
        (b'{"a":1}\n\n x', "trailing characters at line 3 column 2"),
        (b'{"a":01}', "invalid number at line 1 column 7"),
        (b'{"a":NaN}', "expected value at line 1 column 6"),
        (b'{"a" 1}', "expected `:` at line 1 column 6"),
        (b'{"a":1,}', "trailing comma at line 1 column 8"),
        (b"{a:1}", "key must be a string at line 1 column 2"),
        (b"\xef\xbb\xbf{}", "expected value at line 1 column 1"),
        (b'{"upsert_rows":[],"upsert_rows":[]}', "duplicate field `upsert_rows` at line 1 column 19"),
        (b'{"upsert_rows":[{"id":1,"\\u0069d":2}]}', "duplicate field `id` at line 1 column 25"),
    ],
)
def test_broken_json_is_told_in_the_words_of_the_upstream(body: bytes, message: str) -> None:
    assert refusal(body) == ("bad_json", f"Failed to parse the request body as JSON: {message}")


def test_broken_json_goes_before_a_broken_rule() -> None:
    assert refusal(b'{"upsert_rows":[{"id":1,"_hevlayer_x":1}],')[0] == "bad_json"


SAMPLE = (
    b'{"upsert_rows":[{"id":1,"t":"caf\xc3\xa9 \\u00e9","vector":[0.125,-3e-7,12,0.5,1.25,2,3,4,5,6,7,8,9,10,11]}],'
    b'"deletes":["\xf0\x9f\x98\x80"]}'
)


def test_truncation_at_every_place_is_refused() -> None:
    assert stamped(SAMPLE)
    for end in range(len(SAMPLE)):
        assert refusal(SAMPLE[:end])[0] == "bad_json"


@pytest.mark.parametrize("byte", [0x00, 0x1F, 0x80, 0xC0, 0xED, 0xF5, 0xFF])
def test_a_bad_byte_at_every_place_is_refused(byte: int) -> None:
    for at in range(len(SAMPLE) + 1):
        body = SAMPLE[:at] + bytes([byte]) + SAMPLE[at:]
        assert refusal(body)[0] == "bad_json", at


@pytest.mark.parametrize("overlong", [b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
def test_broken_utf8_in_strings_is_refused(overlong: bytes) -> None:
    for pad in range(70):
        assert refusal(b'{"a":"' + b"x" * pad + overlong + b'"}')[0] == "bad_json"


def test_long_strings_and_numbers_pass() -> None:
    for value in (b'"' + b"x" * 10_000_000 + b'"', b'"' + "é".encode() * 5_000_000 + b'"', b"9" * 1_000_000):
        body = b'{"a":%b}' % value
        assert stamped(body) is body
    name = b"_hevlayer_" + b"x" * 1_000_000
    assert len(refusal(b'{"upsert_rows":[{"id":1,"%b":1}]}' % name)[1]) < 400


def test_the_twin_reads_the_same_sample() -> None:
    assert reference.parse(stamped(SAMPLE)) == reference.WriteTwin(SAMPLE).render(77, None)
