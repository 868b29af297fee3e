"""The name encoder: reversible, one segment, no file-system step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hevlayer.wire.names import decode_name, encode_name, object_key

names = st.text(st.characters(), max_size=40)


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("products", "products"),
        ("Prod-1_a.b", "Prod-1_a.b"),
        (".", "~2e"),
        ("..", "~2e."),
        (".hidden", "~2ehidden"),
        ("a/b", "a~2fb"),
        ("~", "~7e"),
        ("", "~"),
        ("ü", "~c3~bc"),
        ("\x00", "~00"),
        ("\ud800", "~ed~a0~80"),
    ],
)
def test_encodings(name, encoded):
    assert encode_name(name) == encoded
    assert decode_name(encoded) == name


@given(names)
def test_every_text_comes_back(name):
    encoded = encode_name(name)
    assert decode_name(encoded) == name
    assert encoded not in ("", ".", "..")
    assert not encoded.startswith(".")
    assert encoded.isascii()
    assert "/" not in encoded


@given(names, names)
def test_two_names_never_share_a_key(one, other):
    assert (encode_name(one) == encode_name(other)) == (one == other)
    assert object_key(one, other).count("/") == 1


@pytest.mark.parametrize("segment", ["", ".", "..", ".a", "a/b", "~2", "~2E", "~61", "a~", "~ff", "ü", "a b"])
def test_what_no_name_encodes_to_is_refused(segment):
    with pytest.raises(ValueError, match="not an encoded name"):
        decode_name(segment)


def test_the_longest_upstream_name_stays_a_file_name():
    assert len(encode_name("." * 128)) <= 130
