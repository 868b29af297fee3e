"""What a load run does: checked, complete and reproducible from its values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from hevlayer.errors import ConfigurationError

DOCUMENTS_MAX = 10_000_000
DIMENSIONS_MAX = 10_752
CONCURRENCY_MAX = 1024
SECONDS_MAX = 24 * 3600.0
RATE_MAX = 1_000_000.0
TOP_K_MAX = 10_000
WRITE_ROWS_MAX = 1000
WEIGHT_MAX = 1_000_000


class Operation(StrEnum):
    """One kind of request. `fetch` goes to the gateway's document route; an endpoint without one gets the query that
    asks the same."""

    VECTOR = "vector"
    TEXT = "text"
    FILTER = "filter"
    COUNT = "count"
    FETCH = "fetch"
    WRITE = "write"


SUMMARIES: Mapping[Operation, str] = {
    Operation.VECTOR: "nearest neighbours of a random vector",
    Operation.TEXT: "BM25 over two to four words",
    Operation.FILTER: "rows of one category above a rank, by rank",
    Operation.COUNT: "the number of rows of one category",
    Operation.FETCH: "one document by its id, with its attributes",
    Operation.WRITE: "rows that are there already, upserted with new vectors",
}

DEFAULT_MIX: Mapping[Operation, int] = {
    Operation.VECTOR: 50,
    Operation.TEXT: 15,
    Operation.FILTER: 10,
    Operation.FETCH: 20,
    Operation.WRITE: 5,
}


class Kind(StrEnum):
    """Which routes an endpoint has."""

    DIRECT = "direct"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint under load. `key` is the bearer; empty sends none."""

    kind: Kind
    url: str
    key: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        return self.kind.value


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """A whole run.

    Args:
        mix: weights of the operations.
        concurrency: requests in flight at most, per target.
        duration_seconds, warm_up_seconds: measured and unmeasured load, each per target.
        slice_seconds: how long one target has the load before the other one gets it.
        rate: operations a second, per target, at times that do not depend on the answers (open loop); None: each of
            `concurrency` callers sends its next request when its answer is there (closed loop).
        timeout_seconds: of one request.
        index_wait_seconds: how long the upstream may take to index what was loaded.
    """

    targets: tuple[Target, ...]
    documents: int = 10_000
    dimensions: int = 128
    mix: Mapping[Operation, int] = field(default_factory=lambda: DEFAULT_MIX)
    concurrency: int = 8
    duration_seconds: float = 30.0
    warm_up_seconds: float = 3.0
    slice_seconds: float = 1.0
    rate: float | None = None
    top_k: int = 10
    write_rows: int = 10
    seed: int = 0
    timeout_seconds: float = 30.0
    index_wait_seconds: float = 300.0
    namespace_prefix: str = "layer-bench"
    keep: bool = False

    def check(self) -> "BenchPlan":
        """The plan itself. Raises: ConfigurationError: all that is wrong with it."""
        problems = [*self._problems()]
        if problems:
            raise ConfigurationError(problems)
        return self

    def _problems(self) -> list[str]:
        ranges: tuple[tuple[str, float, float, float], ...] = (
            ("documents", self.documents, 1, DOCUMENTS_MAX),
            ("dimensions", self.dimensions, 1, DIMENSIONS_MAX),
            ("concurrency", self.concurrency, 1, CONCURRENCY_MAX),
            ("duration", self.duration_seconds, 0.1, SECONDS_MAX),
            ("warm-up", self.warm_up_seconds, 0, SECONDS_MAX),
            ("slice", self.slice_seconds, 0.05, SECONDS_MAX),
            ("top-k", self.top_k, 1, TOP_K_MAX),
            ("write-rows", self.write_rows, 1, WRITE_ROWS_MAX),
            ("timeout", self.timeout_seconds, 0.05, SECONDS_MAX),
            ("index-wait", self.index_wait_seconds, 0, SECONDS_MAX),
        )
        found = [
            f"{name} must be from {low:g} to {high:g}" for name, value, low, high in ranges if not low <= value <= high
        ]
        if self.rate is not None and not 0 < self.rate <= RATE_MAX:
            found.append(f"rate must be above 0 and at most {RATE_MAX:g}")
        if not self.targets:
            found.append("direct or gateway: at least one URL is needed")
        if len({target.kind for target in self.targets}) < len(self.targets):
            found.append("direct and gateway can be given once each")
        found += [problem for target in self.targets for problem in url_problems(target.name, target.url)]
        if not self.mix or sum(self.mix.values()) < 1:
            found.append("mix must give at least one operation a weight above 0")
        return found


def url_problems(name: str, url: str) -> list[str]:
    """Why a URL cannot be an endpoint's; it is not repeated, since it may hold a password."""
    try:
        parts = urlsplit(url)
        port_ok = parts.port != 0
    except ValueError:
        return [f"{name} must be an http:// or https:// URL"]
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_ok:
        return [f"{name} must be an http:// or https:// URL"]
    if parts.username is not None or parts.password is not None:
        return [f"{name} must not hold a user or a password: the key comes from the environment"]
    if parts.query or parts.fragment:
        return [f"{name} must not have a query or a fragment"]
    return []


def parse_mix(text: str) -> dict[Operation, int]:
    """A mix such as `vector=70,fetch=30`. Raises: ValueError: its text states the rule."""
    known = ", ".join(operation.value for operation in Operation)
    mix: dict[Operation, int] = {}
    for part in text.split(","):
        name, equals, weight = part.strip().partition("=")
        try:
            operation = Operation(name)
        except ValueError:
            raise ValueError(f"names an operation that there is not: {name!r}; there are {known}") from None
        if operation in mix:
            raise ValueError(f"names {name} twice")
        if not equals or not weight.isascii() or not weight.isdigit() or int(weight) > WEIGHT_MAX:
            raise ValueError(f"must give {name} a whole weight from 0 to {WEIGHT_MAX}, as in {name}=10")
        mix[operation] = int(weight)
    if not any(mix.values()):
        raise ValueError("must give at least one operation a weight above 0")
    return mix
