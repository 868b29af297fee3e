"""Faults on demand: what a test asks the origin to do wrong, decided by rules and a seed.

A rule matches requests by route, namespace and method and has one effect. Effects that can hide whether a write was
applied (`latency`, `status`, `reset`) say on which side of the commit they happen.
"""

import fnmatch
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from hevlayer.errors import ValidationError
from hevlayer.origin.routes import METHODS, ROUTE_NAMES

RULES_MAX = 1000
LATENCY_MS_MAX = 600_000
BYTES_PER_SECOND_MAX = 1 << 40

When = Literal["before", "after"]
_Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=LATENCY_MS_MAX)]


class _Strict(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    pass


class Latency(_Strict, frozen=True, tag_field="kind", tag="latency"):
    """A fixed wait."""

    ms: _Milliseconds
    when: When = "before"


class LogNormalLatency(_Strict, frozen=True, tag_field="kind", tag="latency_log_normal"):
    """A wait of exp(N(mu, sigma)) milliseconds, at most `cap_ms`."""

    mu: Annotated[float, msgspec.Meta(ge=-20, le=20)]
    sigma: Annotated[float, msgspec.Meta(ge=0, le=10)]
    cap_ms: _Milliseconds = 60_000.0
    when: When = "before"


class Status(_Strict, frozen=True, tag_field="kind", tag="status"):
    """An error answer; with `when` = "after" the request was carried out all the same."""

    status: Annotated[int, msgspec.Meta(ge=400, le=599)]
    retry_after_seconds: Annotated[float, msgspec.Meta(ge=0, le=86_400)] | None = None
    message: str = "injected fault"
    when: When = "before"


class Reset(_Strict, frozen=True, tag_field="kind", tag="reset"):
    """The connection is reset without an answer; with `when` = "after" the request was carried out."""

    when: When = "before"


class SlowBody(_Strict, frozen=True, tag_field="kind", tag="slow_body"):
    """The answer trickles."""

    bytes_per_second: Annotated[int, msgspec.Meta(ge=1, le=BYTES_PER_SECOND_MAX)]


class TruncatedBody(_Strict, frozen=True, tag_field="kind", tag="truncated_body"):
    """The connection breaks after a share of the announced body."""

    keep_fraction: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.5


Effect = Latency | LogNormalLatency | Status | Reset | SlowBody | TruncatedBody


class Match(_Strict, frozen=True):
    """Empty means any. `namespace` is a shell pattern; requests without a namespace match only the empty one or `*`."""

    route: str | None = None
    namespace: str = "*"
    method: str | None = None


class Rule(_Strict, frozen=True):
    """`count` is how often the rule may still fire; None is without limit."""

    effect: Effect
    match: Match = Match()
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    count: Annotated[int, msgspec.Meta(ge=0)] | None = None


class FaultConfig(_Strict, frozen=True):
    rules: Annotated[list[Rule], msgspec.Meta(max_length=RULES_MAX)] = []
    seed: int = 0


def decode_faults(body: bytes) -> FaultConfig:
    """Rules from JSON.

    Raises: ValidationError: names the field (`$.rules[0].probability`) and the rule it breaks.
    """
    try:
        config = msgspec.json.decode(body, type=FaultConfig)
    except msgspec.DecodeError as error:
        raise ValidationError(f"faults: {error}") from error
    for position, rule in enumerate(config.rules):
        where = f"`$.rules[{position}].match"
        if rule.match.route is not None and rule.match.route not in ROUTE_NAMES:
            raise ValidationError(
                f"faults: Unknown route {rule.match.route!r}, expected one of {', '.join(sorted(ROUTE_NAMES))}"
                f" - at {where}.route`"
            )
        if rule.match.method is not None and rule.match.method not in METHODS:
            raise ValidationError(
                f"faults: Unknown method {rule.match.method!r}, expected one of {', '.join(sorted(METHODS))}"
                f" - at {where}.method`"
            )
    return config


@dataclass(slots=True)
class Side:
    """What happens on one side of the commit: first the wait, then the failure."""

    delay_ms: float = 0.0
    failure: Status | Reset | None = None


@dataclass(slots=True)
class FaultPlan:
    """Everything that goes wrong with one request."""

    before: Side = field(default_factory=Side)
    after: Side = field(default_factory=Side)
    body: SlowBody | TruncatedBody | None = None

    def side(self, when: When) -> Side:
        return self.before if when == "before" else self.after


@dataclass(slots=True)
class _Armed:
    rule: Rule
    rng: random.Random
    fired: int = 0

    def fires(self, route: str, method: str, namespace: str) -> bool:
        match = self.rule.match
        if match.route not in (None, route) or match.method not in (None, method):
            return False
        if not fnmatch.fnmatchcase(namespace, match.namespace):
            return False
        if self.rule.count is not None and self.fired >= self.rule.count:
            return False
        if self.rng.random() >= self.rule.probability:
            return False
        self.fired += 1
        return True


class FaultBook:
    """The rules in force. One event loop uses it, so it needs no lock.

    Each rule draws from its own generator, seeded by the book's seed and its position: a rule's sequence does not
    depend on the others'.
    """

    def __init__(self, config: FaultConfig | None = None) -> None:
        self.replace(config or FaultConfig())

    def replace(self, config: FaultConfig) -> None:
        self._seed = config.seed
        self._armed = [
            _Armed(rule, random.Random(f"{config.seed}:{position}"))  # noqa: S311 -- repeatable on purpose
            for position, rule in enumerate(config.rules)
        ]

    def describe(self) -> dict[str, object]:
        """The rules with how often each has fired, as the control route shows them."""
        return {
            "seed": self._seed,
            "rules": [{**msgspec.to_builtins(armed.rule), "fired": armed.fired} for armed in self._armed],
        }

    def plan(self, route: str, method: str, namespace: str) -> FaultPlan | None:
        """What to do to this request; None when no rule fires. Waits add up; the first failure of a side wins."""
        if not self._armed:
            return None
        fired = [armed for armed in self._armed if armed.fires(route, method, namespace)]
        return _combine(fired) if fired else None


def _combine(fired: Sequence[_Armed]) -> FaultPlan:
    plan = FaultPlan()
    for armed in fired:
        match armed.rule.effect:
            case Latency(ms=ms, when=when):
                plan.side(when).delay_ms += ms
            case LogNormalLatency(mu=mu, sigma=sigma, cap_ms=cap_ms, when=when):
                plan.side(when).delay_ms += min(cap_ms, armed.rng.lognormvariate(mu, sigma))
            case Status(when=when) | Reset(when=when) as failure:
                side = plan.side(when)
                side.failure = side.failure or failure
            case SlowBody() | TruncatedBody() as body:
                plan.body = plan.body or body
    return plan
