"""Where a scan is answered from. Pure."""

from dataclasses import dataclass
from typing import TypeAlias, assert_never

from hevlayer.errors import CacheColdError, PreconditionFailedError, ValidationError
from hevlayer.gateway.scan.request import FilterSelector, Selector, Source


@dataclass(frozen=True, slots=True)
class FromCache:
    """The document cache holds every row through this stamp; rows stamped later are left out."""

    through_ms: int


@dataclass(frozen=True, slots=True)
class FromOrigin:
    """The upstream answers. `warm`: the cache could have, had it been complete."""

    warm: bool = False


ScanPlan: TypeAlias = FromCache | FromOrigin


def plan_source(source: Source, selector: Selector, through_ms: int | None, unsupported: str | None) -> ScanPlan:
    """Where to read.

    Args:
        through_ms: the stamp through which every row is cached; None while one may be missing.
        unsupported: why the cache cannot evaluate this filter; None when it can.
    Raises: CacheColdError, PreconditionFailedError, ValidationError: the source that was asked for cannot do it.
    """
    if not isinstance(selector, FilterSelector):
        unsupported = f"{selector.name}: only the upstream searches text and vectors"
    match source:
        case Source.ORIGIN:
            return FromOrigin()
        case Source.AUTO:
            if unsupported is not None:
                return FromOrigin()
            return FromOrigin(warm=True) if through_ms is None else FromCache(through_ms)
        case Source.CACHE:
            if unsupported is not None:
                raise ValidationError(f"source: the cache cannot answer this; {unsupported}")
            if through_ms is None:
                raise CacheColdError("the document cache does not hold every row of this namespace; warm it first")
            return FromCache(through_ms)
        case Source.SNAPSHOT:
            raise PreconditionFailedError("source: there is no snapshot of this namespace that could answer")
    assert_never(source)
