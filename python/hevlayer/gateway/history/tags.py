"""The labels of searches and fetches: how they are written in a header or a parameter, and their limits."""

import re
from collections.abc import Iterable

from hevlayer.errors import ValidationError

TAGS_MAX = 32
TAG_BYTES_MAX = 128
TAGS_HEADER = b"x-hevlayer-tags"
TAG_PARAMETER = "tag"
_ALLOWED = re.compile(r"[A-Za-z0-9:_\-./=+]+", re.ASCII)
# A caller's tag in a message of ours.
_SHOWN_CHARS = 40


def parse_tags(text: str, field: str) -> tuple[str, ...]:
    """The tags of a comma-separated text: trimmed, without empty ones, sorted, each once.

    Raises: ValidationError: a limit is broken; the message names `field` and the limit.
    """
    tags = sorted({tag for part in text.split(",") if (tag := part.strip())})
    if len(tags) > TAGS_MAX:
        raise ValidationError(f"{field} has {len(tags)} different tags; at most {TAGS_MAX} are allowed")
    for tag in tags:
        if _ALLOWED.fullmatch(tag) is None:
            raise ValidationError(
                f"{field}: the tag {tag[:_SHOWN_CHARS]!r} has a character that is not an ASCII letter, a digit or one "
                "of : _ - . / = +"
            )
        if len(tag) > TAG_BYTES_MAX:
            shown = tag[:_SHOWN_CHARS] + "…"
            raise ValidationError(
                f"{field}: the tag {shown!r} has {len(tag)} bytes; at most {TAG_BYTES_MAX} are allowed"
            )
    return tuple(tags)


def header_tags(values: Iterable[bytes]) -> tuple[str, ...]:
    """The tags of a request; a header that is sent several times is one list. Raises: ValidationError."""
    text = b",".join(values)
    return parse_tags(text.decode("latin-1"), TAGS_HEADER.decode()) if text else ()
