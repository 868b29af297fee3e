"""Which fields of a namespace are watched, how often, and how long bodies stay."""

import logging
import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import orjson

from hevlayer.errors import ServiceUnavailableError, Source, ValidationError
from hevlayer.gateway.snapshots.place import namespace_in
from hevlayer.stores.objects import ObjectStore
from hevlayer.wire.bodies import UNREADABLE_JSON, MalformedJsonError, decode_body
from hevlayer.wire.names import decode_name, object_key
from hevlayer.wire.reserved import RESERVED_PREFIX

FIELDS_MAX = 64
FIELD_BYTES_MAX = 128
SNAPSHOT_MIN_INTERVAL_MS = 300_000
NEVER = "never"
POLICIES_MAX = 10_000
LIST_PAGE_KEYS = 1_000
_ROOT, _NAME = "policies", "snapshots.json"
_DURATION = re.compile(r"([1-9][0-9]{0,8})(ms|s|m|h|d|w)")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

log = logging.getLogger("hevlayer.snapshots")


class BrokenPolicyError(ServiceUnavailableError):
    """A policy in the object store that this version cannot read."""

    source = Source.STORE


class Policy(NamedTuple):
    """What a caller has put. None: as the configuration has it."""

    fields: tuple[str, ...] | None = None
    interval: str | None = None
    retention: str | None = None

    def encode(self) -> bytes:
        """As a caller would send it. Read back by `read_policy`."""
        fields = None if self.fields is None else list(self.fields)
        return orjson.dumps({"facetFields": fields, "interval": self.interval, "retention": self.retention})


class Rules(NamedTuple):
    """What holds for a namespace. `retention_ms` None: bodies stay for ever."""

    fields: tuple[str, ...]
    interval_ms: int
    retention_ms: int | None

    def as_json(self) -> dict[str, object]:
        return {
            "facetFields": list(self.fields),
            "interval": duration_text(self.interval_ms),
            "retention": NEVER if self.retention_ms is None else duration_text(self.retention_ms),
        }


def duration_ms(name: str, text: object) -> int:
    """Raises: ValidationError."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValidationError(f"{name}: must be a whole number and a unit of ms, s, m, h, d, w, such as 5m")
    return int(found[1]) * _UNIT_MS[found[2]]


def duration_text(ms: int) -> str:
    """In the largest unit that divides it."""
    unit = next(unit for unit in reversed(_UNIT_MS) if ms % _UNIT_MS[unit] == 0) if ms else "ms"
    return f"{ms // _UNIT_MS[unit]}{unit}"


def read_fields(name: str, value: object) -> tuple[str, ...]:
    """Names of facet fields, each once. Raises: ValidationError."""
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ValidationError(f"{name}: must be an array of attribute names")
    if len(value) > FIELDS_MAX:
        raise ValidationError(f"{name}: at most {FIELDS_MAX} fields")
    for each in value:
        if len(each.encode("utf-8", "replace")) > FIELD_BYTES_MAX:
            raise ValidationError(f"{name}: the name of an attribute has at most {FIELD_BYTES_MAX} bytes")
        if each.startswith(RESERVED_PREFIX) or each == "id":
            raise ValidationError(f"{name}: '{each}' cannot be a facet field")
    return tuple(dict.fromkeys(value))


def read_policy(body: bytes) -> Policy:
    """A policy as a caller sends it; what is left out gets its default. Raises: MalformedJsonError, ValidationError."""
    read = decode_body(body)
    if not isinstance(read, dict):
        raise ValidationError("the body must be a JSON object")
    unknown = sorted(read.keys() - {"facetFields", "interval", "retention"})
    if unknown:
        raise ValidationError(f"{unknown[0][:80]}: not a key of a snapshot policy")
    interval, retention, fields = read.get("interval"), read.get("retention"), read.get("facetFields")
    if interval is not None:
        duration_ms("interval", interval)
    if retention not in (None, NEVER):
        duration_ms("retention", retention)
    return Policy(None if fields is None else read_fields("facetFields", fields), interval, retention)


def check_configured(text: str) -> str:
    """`LAYER_FACET_FIELDS` as it was given. Raises: ValueError whose text states the rule."""
    read_configured(text)
    return text


def read_configured(text: str) -> Mapping[str, tuple[str, ...]]:
    """The watched fields of each namespace. Raises: ValueError whose text states the rule."""
    rule = 'must be a JSON object of arrays of attribute names, such as {"films": ["genres"]}'
    try:
        read = msgspec.json.decode(text.encode() or b"{}")
        if not isinstance(read, dict):
            raise ValueError(rule)
        return {namespace: read_fields(namespace, fields) for namespace, fields in read.items()}
    except (*UNREADABLE_JSON, ValidationError) as error:
        raise ValueError(f"{rule}: {error}") from None


class Policies:
    """The rules of a namespace: those of the policy that was put, where it says nothing those of the configuration."""

    def __init__(
        self,
        objects: ObjectStore,
        configured: Mapping[str, tuple[str, ...]],
        *,
        min_interval_ms: int = SNAPSHOT_MIN_INTERVAL_MS,
    ) -> None:
        self._objects = objects
        self._configured = configured
        self._min_interval_ms = min_interval_ms

    @property
    def configured(self) -> frozenset[str]:
        """Namespaces that the configuration names."""
        return frozenset(self._configured)

    async def rules(self, place: str, *, may_be_kept: bool = True) -> Rules:
        """Of a namespace as the store calls it. `may_be_kept` False: no policy was put.

        Raises: ObjectStoreError, BrokenPolicyError.
        """
        body = await self._objects.get(_key(place)) if may_be_kept else None
        return self.rules_of(place, Policy() if body is None else _read_kept(body)[0])

    def rules_of(self, place: str, policy: Policy) -> Rules:
        """What a policy comes to there."""
        fields = self._configured.get(namespace_in(place), ()) if policy.fields is None else policy.fields
        interval_ms = 0 if policy.interval is None else duration_ms("interval", policy.interval)
        kept = policy.retention is None or policy.retention == NEVER
        retention_ms = None if kept else duration_ms("retention", policy.retention)
        return Rules(fields, max(interval_ms, self._min_interval_ms), retention_ms)

    async def put(self, place: str, policy: Policy, now_ms: int) -> None:
        """Raises: ObjectStoreError."""
        kept = orjson.dumps({"put_at_ms": now_ms, "policy": orjson.Fragment(policy.encode())})
        await self._objects.put(_key(place), kept)

    async def delete(self, place: str, put_before_ms: int) -> None:
        """Removes a deleted namespace's policy; a later one is meant for a new namespace of the name. Raises:
        ObjectStoreError."""
        body = await self._objects.get(_key(place))
        if body is None:
            return
        try:
            is_older = _read_kept(body)[1] <= put_before_ms
        except BrokenPolicyError as error:
            # Nobody can follow it, and it would keep the deletion from its end.
            log.warning("a damaged policy is removed", extra={"reason": error.message})
            is_older = True
        if is_older:
            await self._objects.delete(_key(place))

    async def places(self) -> list[str]:
        """Those that have a policy of their own, at most `POLICIES_MAX`. Raises: ObjectStoreError."""
        found: list[str] = []
        after = ""
        while keys := await self._objects.list_keys(f"{_ROOT}/", after=after, limit=LIST_PAGE_KEYS):
            found += [decode_name(parts[1]) for key in keys if (parts := key.split("/"))[2:] == [_NAME]]
            after = keys[-1]
            if len(keys) < LIST_PAGE_KEYS or len(found) >= POLICIES_MAX:
                break
        return found[:POLICIES_MAX]


def _read_kept(body: bytes) -> tuple[Policy, int]:
    """A policy, and when it was put."""
    try:
        kept = orjson.loads(body)
        return read_policy(orjson.dumps(kept["policy"])), int(kept["put_at_ms"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, MalformedJsonError, ValidationError) as error:
        raise BrokenPolicyError("a snapshot policy in the object store cannot be read") from error


def _key(place: str) -> str:
    return object_key(_ROOT, place, _NAME)
