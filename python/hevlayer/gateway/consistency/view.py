"""What the gateway knows about one namespace: an immutable value that a request reads once."""

from dataclasses import dataclass, field
from enum import Enum

from hevlayer.kernels.doccache import DocSchema


class Status(Enum):
    """The upstream index's state as the last poll saw it; UNKNOWN before the first one."""

    UNKNOWN = "unknown"
    UPDATING = "updating"
    STABLE = "stable"


@dataclass(frozen=True, slots=True)
class VectorField:
    """A dense vector attribute. `element` is the stored type of one component: `f32`, `f16` or `i8`."""

    name: str
    dimensions: int
    element: str


@dataclass(frozen=True, slots=True)
class SchemaFacts:
    """What reads and writes need to know of a namespace's schema.

    Attributes:
        stamped: the schema has `_hevlayer_upserted_at`, so a predicate on it is not an error upstream.
        id_type: `uint`, `string` or `uuid`; None when the schema does not say.
        distance_metric: of the vector attributes, as the upstream spells it.
        fields: every attribute's name, reserved ones left out, sorted.
        has_f16, has_datetime, has_embedding: the upstream stores another form than the one that was written, or an
            attribute that it computed itself.
        stored: the whole schema, for rows that are told from writes; None when there is none to read.
    """

    stamped: bool = False
    id_type: str | None = None
    distance_metric: str | None = None
    vectors: tuple[VectorField, ...] = ()
    fields: tuple[str, ...] = ()
    has_f16: bool = False
    has_datetime: bool = False
    has_embedding: bool = False
    stored: DocSchema | None = field(default=None, compare=False, repr=False)

    @property
    def stored_forms_known(self) -> bool:
        """A written row is stored exactly as it was sent, so it may be cached without reading it back."""
        return not (self.has_f16 or self.has_datetime or self.has_embedding)


NO_SCHEMA = SchemaFacts()


@dataclass(frozen=True, slots=True)
class NamespaceView:
    """One namespace as of its last answered poll.

    Attributes:
        watermark_ms: every acknowledged write stamped at or before it is in the index; None before the first stable
            poll; never goes back while the namespace lives.
        polled_at_ms: when the last answered poll started, epoch milliseconds; None before it.
        created_at: the upstream's text; another value means another namespace of the same name.
    """

    status: Status = Status.UNKNOWN
    watermark_ms: int | None = None
    polled_at_ms: int | None = None
    created_at: str | None = None
    schema: SchemaFacts = NO_SCHEMA
    unindexed_bytes: int | None = None
    logical_bytes: int | None = None

    @property
    def is_stable(self) -> bool:
        return self.status is Status.STABLE

    @property
    def stamped_in_schema(self) -> bool:
        return self.schema.stamped

    @property
    def id_type(self) -> str | None:
        return self.schema.id_type

    @property
    def distance_metric(self) -> str | None:
        return self.schema.distance_metric

    def watermark_age_ms(self, now_ms: int) -> int | None:
        """How long the watermark has stood still, never negative; None without a watermark."""
        return None if self.watermark_ms is None else max(0, now_ms - self.watermark_ms)


COLD = NamespaceView()
