"""The one way names and ids enter object keys, paths and set names: reversible, and never `.`, `..` or a separator.

ASCII letters, digits, `_`, `-` and `.` stand for themselves, save a leading `.`; every other byte of the UTF-8 text is
`~` and two lower-case hex digits; the empty text is a lone `~`. A name that the upstream accepts grows by two bytes
at most.
"""

import re

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")
_ENCODED_BYTE = [chr(byte) if byte in _PLAIN else f"~{byte:02x}" for byte in range(256)]
_ESCAPE = re.compile(rb"~([0-9a-f]{2})")


def encode_name(name: str) -> str:
    """One path segment for any text, lone surrogates included."""
    if not name:
        return "~"
    encoded = "".join([_ENCODED_BYTE[byte] for byte in name.encode("utf-8", "surrogatepass")])
    return "~2e" + encoded[1:] if encoded[0] == "." else encoded


def decode_name(segment: str) -> str:
    """The text that `encode_name` encoded.

    Raises: ValueError: no text is encoded like this.
    """
    try:
        raw = b"" if segment == "~" else _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), segment.encode("ascii"))
        name = raw.decode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise ValueError(f"not an encoded name: {segment!r}") from error
    if encode_name(name) != segment:
        raise ValueError(f"not an encoded name: {segment!r}")
    return name


def object_key(*names: str) -> str:
    """An object key of encoded names, joined by `/`."""
    return "/".join([encode_name(name) for name in names])
