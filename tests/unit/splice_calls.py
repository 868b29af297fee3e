"""Calls of the splicer in one line each."""

import pytest

from hevlayer.kernels.splice import QueryScan, SpliceError, WriteScan


def stamped(body: bytes, metric: str | None = None, *, patch: bool = False) -> bytes:
    return WriteScan(body, patch_method=patch).render(77, distance_metric=metric)


def refusal(body: bytes, *, patch: bool = False, query: bool = False) -> tuple[str, str]:
    with pytest.raises(SpliceError) as raised:
        QueryScan(body) if query else WriteScan(body, patch_method=patch)
    return raised.value.code, raised.value.message


def spliced(body: bytes, *, eventual: bool = False, watermark: bool = False, exclude: bool = False) -> bytes:
    return QueryScan(body).render(
        eventual=eventual, watermark_ms=5 if watermark else None, exclude_reserved=exclude, vector=b"[0.5]"
    )
