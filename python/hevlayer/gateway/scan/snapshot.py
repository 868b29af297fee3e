"""Scans that the latest snapshot of a namespace answers: counts of one value or a few, and all values of a field."""

from dataclasses import dataclass
from typing import Protocol

from hevlayer.errors import PreconditionFailedError
from hevlayer.gateway.scan.bodies import ValueCount
from hevlayer.gateway.scan.request import FilterSelector, Mode, ScanRequest, Source
from hevlayer.gateway.snapshots.body import Facet, Snapshot
from hevlayer.gateway.snapshots.counts import asks_for_values, count_in


class LatestOnes(Protocol):
    """The latest snapshots, by what the store calls a namespace."""

    async def get(self, place: str) -> Snapshot | None: ...

    async def soon(self, place: str) -> Snapshot | None: ...


@dataclass(frozen=True, slots=True)
class CountedBefore:
    """What a snapshot says of a count."""

    count: int
    snapshot: Snapshot


def needs(request: ScanRequest) -> str | None:
    """Why no snapshot can answer this request; None: one may."""
    if not isinstance(request.selector, FilterSelector):
        return f"{request.selector.name}: a snapshot knows values, neither texts nor vectors"
    if request.mode is Mode.COUNT:
        return None if asks_for_values(request.filters) else "filters: a snapshot answers one `Eq` or one `In`"
    return None if request.filters is None else "filters: a snapshot has the values of all rows"


class SnapshotScans:
    """Answers from snapshots."""

    def __init__(self, latest: LatestOnes) -> None:
        self._latest = latest

    async def count(self, place: str, identity: str | None, request: ScanRequest) -> CountedBefore | None:
        """None: another source answers.

        Args:
            identity: the namespace's `created_at`; a snapshot of another one answers nothing. None: not known.
        Raises: PreconditionFailedError: the snapshot was asked for and cannot tell. ObjectStoreError,
            BrokenSnapshotError: it was asked for and cannot be had.
        """
        if request.source not in (Source.AUTO, Source.SNAPSHOT):
            return None
        reason = needs(request)
        if reason is None:
            found = await self._find(place, identity, request)
            count = None if found is None else count_in(found, request.filters)
            if found is not None and count is not None:
                return CountedBefore(count, found)
            reason = "the latest snapshot does not tell this count" if found else "there is no snapshot"
        if request.source is Source.SNAPSHOT:
            raise PreconditionFailedError(f"source: no snapshot can answer this; {reason}")
        return None

    async def values(self, place: str, identity: str | None, request: ScanRequest) -> tuple[Snapshot, Facet]:
        """The field's values in the latest snapshot. Raises: as `count`."""
        reason = needs(request)
        if reason is None:
            found = await self._find(place, identity, request)
            facet = None if found is None or request.field is None else found.facet(request.field)
            if found is not None and facet is not None:
                return found, facet
            reason = f"the latest snapshot has no counts of '{request.field}'" if found else "there is no snapshot"
        raise PreconditionFailedError(f"source: no snapshot can answer this; {reason}")

    async def _find(self, place: str, identity: str | None, request: ScanRequest) -> Snapshot | None:
        required = request.source is Source.SNAPSHOT
        if identity is None and not required:
            # Not known yet: the first poll tells which namespace of the name is there.
            return None
        found = await (self._latest.get(place) if required else self._latest.soon(place))
        if found is None or (None not in (identity, found.identity) and identity != found.identity):
            return None
        return found


def values_of(facet: Facet) -> list[ValueCount]:
    """The most frequent first."""
    return [ValueCount(value, count) for value, count in sorted(facet.values, key=lambda pair: -pair[1])]
