"""Bodies of the largest size that are one string: relayed unchanged but for the stamp, or refused, in little memory."""

import resource
from pathlib import Path

import pytest

from hevlayer.kernels.splice import SpliceError, WriteScan

MIB = 1 << 20
BODY_BYTES = 512 * MIB
STAMP_MS = 1_777_000_123_456
HEAD = b'{"upsert_rows":[{"id":1,"text":"'
TAIL = b'"}]}'
STAMPED_TAIL = b'","_hevlayer_upserted_at":1777000123456}]}'
CHUNK_BYTES = 4 * MIB
GROWTH_BYTES_MAX = 256 * MIB


def one_string(path: Path, filler: bytes, tail: bytes) -> int:
    """Writes a body of `BODY_BYTES` whose one attribute is the filler over and over; gives the bytes of the filler."""
    text_bytes = (BODY_BYTES - len(HEAD) - len(tail)) // len(filler) * len(filler)
    block = filler * (MIB // len(filler))
    with path.open("wb") as file:
        file.write(HEAD)
        for _ in range(text_bytes // len(block)):
            file.write(block)
        file.write((filler * (len(block) // len(filler)))[: text_bytes % len(block)])
        file.write(tail)
    return text_bytes


@pytest.mark.parametrize(
    "filler", [b"a", rb"\u00e9", b"\xc3\xa9", rb"\\"], ids=["plain", "escape", "utf-8", "backslash"]
)
def test_a_string_of_the_largest_body_is_stamped_and_else_unchanged(tmp_path, filler):
    path = tmp_path / "body"
    text_bytes = one_string(path, filler, TAIL)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scan = WriteScan.open(path)
    assert (scan.upserts, scan.ids_known) == (1, True)
    length = scan.rendered_length(STAMP_MS)
    assert length == len(HEAD) + text_bytes + len(STAMPED_TAIL)
    at = 0
    with path.open("rb") as original:
        while at < length:
            chunk = scan.render_chunk(STAMP_MS, at, CHUNK_BYTES)
            unchanged = max(0, min(len(chunk), len(HEAD) + text_bytes - at))
            assert chunk[:unchanged] == original.read(unchanged)
            assert chunk[unchanged:] == STAMPED_TAIL[-(length - at - unchanged) :][: len(chunk) - unchanged]
            at += len(chunk)
    assert at == length
    # The file is mapped, so what is resident of it may be counted; what is read from it is not kept a second time.
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < BODY_BYTES + GROWTH_BYTES_MAX
    path.unlink()


@pytest.mark.parametrize(
    "tail",
    [b'\xc3"}]}', b'\\ud800"}]', b"", b'"}]}x', b'\\"}]}', b'\n"}]}'],
    ids=["invalid utf-8", "cut short", "no end", "something behind", "escaped end", "control character"],
)
def test_a_string_of_the_largest_body_that_is_broken_at_its_end_is_refused(tmp_path, tail):
    path = tmp_path / "body"
    one_string(path, b"a", tail)
    with pytest.raises(SpliceError) as caught:
        WriteScan.open(path)
    assert caught.value.code == "bad_json"
    path.unlink()
