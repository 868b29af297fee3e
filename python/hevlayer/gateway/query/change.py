"""Which reserved attributes an answer must not show, and how they are kept out."""

from typing import NamedTuple

from hevlayer.errors import UpstreamError
from hevlayer.gateway.query.plan import Mode
from hevlayer.kernels.splice import QueryScan, SpliceError, layer_results, strip_rows


class Change(NamedTuple):
    """What keeps reserved attributes out: asked of the upstream (`excludes`) or taken from its answer (`strips`).
    `answer` says that the answer is changed at all."""

    excludes: bool
    strips: bool
    answer: bool


_NO_CHANGE = Change(excludes=False, strips=False, answer=False)


def plan_change(scan: QueryScan, mode: Mode) -> Change:
    """The upstream cannot leave out what model reranking must include, and an untouched body cannot ask it to."""
    is_layer = scan.dialect == "layer"
    if not scan.wants_reserved:
        return Change(excludes=False, strips=False, answer=True) if is_layer else _NO_CHANGE
    excludes = not scan.model_rerank and (is_layer or mode is not Mode.UPSTREAM)
    return Change(excludes, strips=not excludes, answer=is_layer or not excludes)


def changed(body: bytes, scan: QueryScan, change: Change) -> bytes:
    """An answer without reserved attributes, and with `results` for the Layer dialect.

    Raises: UpstreamError: it is not JSON, or has no rows.
    """
    try:
        if change.strips:
            body = strip_rows(body)
        if scan.dialect != "layer":
            return body
        with_results = layer_results(body)
    except SpliceError as error:
        raise UpstreamError("the upstream's answer to the query is not JSON") from error
    if len(with_results) == len(body):
        raise UpstreamError("the upstream's answer to the query has no rows")
    return with_results
