"""The tag contract, rule by rule."""

import pytest

from hevlayer.errors import ValidationError
from hevlayer.gateway.history.tags import TAG_BYTES_MAX, TAGS_MAX, header_tags, parse_tags

MANY = [f"t{number:02}" for number in range(TAGS_MAX + 1)]


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        pytest.param("", (), id="nothing"),
        pytest.param(",, ,\t,", (), id="empty ones are dropped"),
        pytest.param("a", ("a",), id="one"),
        pytest.param("b,a,c", ("a", "b", "c"), id="sorted"),
        pytest.param("a,b,a,a", ("a", "b"), id="each once"),
        pytest.param("  a ,\tb  ", ("a", "b"), id="trimmed"),
        pytest.param("a ,a", ("a",), id="trimmed before it is told apart"),
        pytest.param("B,a,Z,z", ("B", "Z", "a", "z"), id="sorted by bytes, and case counts"),
        pytest.param("az09AZ:_-./=+", ("az09AZ:_-./=+",), id="every allowed character"),
        pytest.param(r"a\,b".replace("\\", "/"), ("a/", "b"), id="a comma always separates"),
        pytest.param("x" * TAG_BYTES_MAX, ("x" * TAG_BYTES_MAX,), id="as long as allowed"),
        pytest.param(",".join(MANY[:TAGS_MAX]), tuple(MANY[:TAGS_MAX]), id="as many as allowed"),
        pytest.param(",".join(MANY[:TAGS_MAX] * 3), tuple(MANY[:TAGS_MAX]), id="only different ones count"),
    ],
)
def test_what_is_taken(text, tags):
    assert parse_tags(text, "tag") == tags
    assert header_tags([text.encode("latin-1")]) == tags


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param(",".join(MANY), "has 33 different tags; at most 32", id="too many"),
        pytest.param("x" * (TAG_BYTES_MAX + 1), "has 129 bytes; at most 128", id="too long"),
        pytest.param(f"ok,{'y' * 200}", "has 200 bytes", id="one of them too long"),
        *(
            pytest.param(f"a{character}b", "not an ASCII letter", id=f"character {character!r}")
            for character in " \"'\\*?%&#@!~()[]{}<>|;$^`é²\x00"
        ),
        pytest.param("a\\,b", "not an ASCII letter", id="a comma cannot be escaped"),
    ],
)
def test_what_is_refused(text, rule):
    with pytest.raises(ValidationError, match=rule) as parameter:
        parse_tags(text, "tag")
    assert parameter.value.message.startswith("tag")
    with pytest.raises(ValidationError, match=rule) as header:
        header_tags([text.encode("latin-1")])
    assert header.value.message.startswith("x-hevlayer-tags")


def test_no_header_is_no_tag():
    assert header_tags([]) == ()


def test_a_header_that_is_sent_twice_is_one_list():
    assert header_tags([b"b, a", b"", b"c,a"]) == ("a", "b", "c")
    with pytest.raises(ValidationError, match="not an ASCII letter"):
        header_tags([b"a", b"b!"])
