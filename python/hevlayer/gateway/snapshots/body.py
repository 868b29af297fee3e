"""A snapshot as plain data: its canonical form, the hash of it, and what callers see."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from hevlayer.errors import ServiceUnavailableError, Source

# Distinct values of a field; one that has as many is skipped, never cut short. It is also the most groups that the
# upstream is asked for (`scan.bodies.GROUPS_MAX`): with a smaller number there, a field could look whole that is not.
VALUES_CAP = 10_000
SHORT_SHA_CHARS = 7

Value = str | int | float | bool


class BrokenSnapshotError(ServiceUnavailableError):
    """A body in the object store that is not what its key says."""

    source = Source.STORE


class Facet(NamedTuple):
    """The values of one field and how many rows have each. `missing_rows` have none; None: not counted (arrays)."""

    name: str
    type: str
    values: tuple[tuple[Value, int], ...]
    missing_rows: int | None


class Skipped(NamedTuple):
    """A field that has `VALUES_CAP` values or more."""

    name: str
    distinct_observed: int


class Histogram(NamedTuple):
    """What was counted of a namespace at one cut."""

    row_count: int
    fields: tuple[Facet, ...]
    skipped: tuple[Skipped, ...]

    def canonical(self) -> bytes:
        """The shape as bytes: equal for equal counts, whatever the namespace, the time and the order of counting."""
        shape = {
            "rows": self.row_count,
            "fields": [
                [facet.name, facet.type, facet.missing_rows, sorted(facet.values, key=lambda pair: _order(pair[0]))]
                for facet in sorted(self.fields)
            ],
            "skipped": sorted(each.name for each in self.skipped),
        }
        return orjson.dumps(shape)

    def sha(self) -> str:
        """SHA-256 of the canonical form, in hex."""
        return hashlib.sha256(self.canonical()).hexdigest()


class Snapshot(NamedTuple):
    """A histogram of a namespace at a watermark.

    Attributes:
        place: what the store calls the namespace.
        sha: of the histogram.
        identity: the namespace's `created_at`, as the upstream spells it; None: not known. Another one means another
            namespace of the same name.
    """

    place: str
    watermark_ms: int
    histogram: Histogram
    sha: str
    identity: str | None = None
    filtered: bool = False

    @classmethod
    def of(
        cls,
        place: str,
        watermark_ms: int,
        histogram: Histogram,
        *,
        identity: str | None = None,
        filtered: bool = False,
    ) -> "Snapshot":
        return cls(place, watermark_ms, histogram, histogram.sha(), identity, filtered)

    @property
    def value_count(self) -> int:
        """Values in all fields: what it takes to keep it."""
        return sum(len(facet.values) for facet in self.histogram.fields)

    def facet(self, name: str) -> Facet | None:
        """The field's counts; None when it was not counted, or skipped."""
        return next((facet for facet in self.histogram.fields if facet.name == name), None)

    def encode(self) -> bytes:
        """What is kept. Read back by `read_snapshot`."""
        histogram = self.histogram
        return orjson.dumps(
            {
                "watermark_ms": self.watermark_ms,
                "sha": self.sha,
                "created_at": self.identity,
                "row_count": histogram.row_count,
                "filtered": self.filtered,
                "fields": [facet._asdict() for facet in histogram.fields],
                "fields_skipped": [each._asdict() for each in histogram.skipped],
            }
        )

    def as_json(self, namespace: str) -> dict[str, object]:
        """The body as callers see it: values are strings, the most frequent first."""
        histogram = self.histogram
        return {
            "namespace": namespace,
            "watermark_ms": self.watermark_ms,
            "sha": self.sha,
            "row_count": histogram.row_count,
            "fields": [_shown(facet) for facet in histogram.fields],
            "fields_skipped": [
                {
                    "name": each.name,
                    "reason": "exceeded_cap",
                    "distinct_observed": each.distinct_observed,
                    "cap": VALUES_CAP,
                }
                for each in histogram.skipped
            ],
        }


def facet_of(
    name: str, kind: str, values: Iterable[tuple[Value, int]], missing_rows: int | None, *, more: bool = False
) -> Facet | Skipped:
    """The counts of a field; `more`: there may be values beside these."""
    found = sorted(values, key=lambda pair: str(pair[0]))
    # Rows without a value are one of the upstream's groups.
    if more or len(found) + bool(missing_rows) >= VALUES_CAP:
        return Skipped(name, len(found))
    return Facet(name, kind, tuple(found), missing_rows)


def read_snapshot(place: str, body: bytes, key: str = "") -> Snapshot:
    """Raises: BrokenSnapshotError: what stands under the key is no snapshot, or not the one that its hash says."""
    named = f"the snapshot '{key}'" if key else "a snapshot"
    try:
        read: Mapping[str, Any] = orjson.loads(body)
        fields = tuple(
            Facet(each["name"], each["type"], tuple(map(_pair, each["values"])), each["missing_rows"])
            for each in read["fields"]
        )
        skipped = tuple(Skipped(each["name"], each["distinct_observed"]) for each in read["fields_skipped"])
        histogram = Histogram(read["row_count"], fields, skipped)
        snapshot = Snapshot.of(
            place, read["watermark_ms"], histogram, identity=read["created_at"], filtered=read["filtered"]
        )
        told = read["sha"]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise BrokenSnapshotError(f"{named} in the object store cannot be read") from error
    if told != snapshot.sha:
        raise BrokenSnapshotError(f"{named} in the object store is not the one that its hash names")
    return snapshot


def as_text(value: Value) -> str:
    """A value as callers see it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _shown(facet: Facet) -> dict[str, object]:
    values = sorted(facet.values, key=lambda pair: (-pair[1], _order(pair[0])))
    shown = [{"v": as_text(value), "n": count} for value, count in values]
    return {"name": facet.name, "type": facet.type, "values": shown}


def _pair(found: Sequence[Any]) -> tuple[Value, int]:
    value, count = found
    return value, count


def _order(value: Value) -> tuple[str, Value]:
    return type(value).__name__, value
