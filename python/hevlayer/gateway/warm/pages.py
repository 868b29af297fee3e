"""The pages of a warm: their bodies, their sizes, and the ids at their ends. Pure."""

import orjson

from hevlayer.errors import ValidationError
from hevlayer.gateway.reads import Id, Span

PAGE_ROWS_MAX = 10_000
# The first page tells how large rows are; it must fit whatever they are.
PAGE_ROWS_FIRST = 200
PAGE_BYTES_TARGET = 4 * 1024 * 1024
# Rows that come may be larger than those that were seen.
GROWTH_MAX = 8
CHUNK_IDS = 500

_UINT_TAG = 1
_STRONG = b'{"level":"strong"}'


def read_page_size(text: str | None, most: int = PAGE_ROWS_MAX) -> int | None:
    """Raises: ValidationError: not an integer in 1..most."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise ValidationError(f"page_size must be an integer in 1..{most}")
    return int(text)


class PageSizer:
    """How many rows to ask for, so that a page has about `PAGE_BYTES_TARGET` bytes; a caller's number is the most."""

    def __init__(self, rows_max: int | None = None) -> None:
        self._rows_max = PAGE_ROWS_MAX if rows_max is None else rows_max
        self.rows = min(self._rows_max, PAGE_ROWS_FIRST if rows_max is None else rows_max)
        self._fixed = rows_max is not None

    def saw(self, rows: int, answer_bytes: int) -> None:
        """A page came."""
        if self._fixed or not rows:
            return
        wanted = PAGE_BYTES_TARGET * rows // max(1, answer_bytes)
        self.rows = max(1, min(self._rows_max, self.rows * GROWTH_MAX, wanted))

    def overran(self, rows: int) -> None:
        """A page of so many rows was too long to be taken."""
        self.rows = min(self.rows, max(1, rows // 2))


def page_body(span: Span, rows: int) -> bytes:
    """The query for the first rows of a span: whole rows, strongly consistent."""
    return b'{"rank_by":["id","asc"],"limit":%d,%b"include_attributes":true,"consistency":%b}' % (
        rows,
        _filters(span),
        _STRONG,
    )


def highest_body() -> bytes:
    """The query for the highest id."""
    return b'{"rank_by":["id","desc"],"limit":1,"consistency":%b}' % _STRONG


def rows_body(ids: list[bytes]) -> bytes:
    """The query for whole rows by id; ids are JSON texts."""
    return (
        b'{"rank_by":["id","asc"],"limit":%d,"filters":["id","In",[%b]],"include_attributes":true,"consistency":%b}'
        % (len(ids), b",".join(ids), _STRONG)
    )


def _filters(span: Span) -> bytes:
    bounds = span_filters(span)
    if not bounds:
        return b""
    return b'"filters":%b,' % orjson.dumps(bounds[0] if len(bounds) == 1 else ["And", bounds])


def span_filters(span: Span) -> list[list[object]]:
    """The conditions on the id that a span stands for."""
    bounds: list[list[object]] = []
    if span.after is not None:
        bounds.append(["id", "Gt", span.after])
    if span.through is not None:
        bounds.append(["id", "Lte", span.through])
    return bounds


def id_of_key(key: bytes) -> Id:
    """The id of a cache key (`kernels.splice.id_key`)."""
    return int.from_bytes(key[1:], "big") if key[0] == _UINT_TAG else key[1:].decode()


def json_of_key(key: bytes) -> bytes:
    """The JSON text of a cache key's id."""
    return orjson.dumps(id_of_key(key))
