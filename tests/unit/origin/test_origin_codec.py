import gzip

import pytest

from hevlayer.origin import codec
from hevlayer.wire.headers import accepts_gzip

TEXT = b'{"upsert_rows":[]}' * 100


@pytest.mark.parametrize("encoding", [None, b"identity", b"Identity", b""])
def test_a_plain_body_is_the_same_object(encoding):
    assert codec.inflate(TEXT, encoding, 10) is TEXT


@pytest.mark.parametrize("encoding", [b"gzip", b"GZIP", b"x-gzip"])
def test_gzip_is_inflated(encoding):
    assert codec.inflate(gzip.compress(TEXT), encoding, len(TEXT)) == TEXT


def test_several_steps_make_one_body():
    body = bytes(range(256)) * 20_000
    assert codec.inflate(gzip.compress(body, 1), b"gzip", len(body)) == body


def test_an_empty_body_inflates():
    assert codec.inflate(gzip.compress(b""), b"gzip", 0) == b""


@pytest.mark.parametrize(
    ("body", "encoding", "status", "reason"),
    [
        (b"not gzip at all", b"gzip", 400, "not valid gzip"),
        (b"", b"gzip", 400, "truncated"),
        (gzip.compress(TEXT)[:-9], b"gzip", 400, "truncated"),
        (gzip.compress(TEXT) + b"more", b"gzip", 400, "bytes follow"),
        (gzip.compress(TEXT)[:-8] + b"\0" * 8, b"gzip", 400, "not valid gzip"),
        (TEXT, b"br", 400, "unsupported content encoding 'br'"),
        (gzip.compress(b"0" * 5_000_000), b"gzip", 413, "limit is 1800 bytes"),
    ],
)
def test_a_bad_body_is_refused_with_its_reason(body, encoding, status, reason):
    with pytest.raises(codec.BodyError, match=reason) as caught:
        codec.inflate(body, encoding, len(TEXT))
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (None, False),
        (b"", False),
        (b"identity", False),
        (b"br, deflate", False),
        (b"*", False),
        (b"gzip", True),
        (b"GZip", True),
        (b"br;q=1.0, gzip;q=0.5", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.000", False),
        (b"gzip;q=0.001", True),
        (b"identity, gzipped", False),
    ],
)
def test_gzip_is_used_only_when_asked(header, accepted):
    assert accepts_gzip(header) is accepted


def test_deflate_round_trips():
    assert gzip.decompress(codec.deflate(TEXT)) == TEXT


def test_the_error_shape_does_not_escape_emoji():
    assert codec.error_body("💔 a/b") == '{"status":"error","error":"💔 a/b"}'.encode()
