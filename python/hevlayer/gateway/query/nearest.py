"""The vector of `nearest_to_id`: the mean of stored vectors, from the document cache, else from the upstream."""

import base64
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from hevlayer.errors import NotFoundError, UpstreamError, ValidationError
from hevlayer.gateway.consistency import NamespaceView
from hevlayer.gateway.consistency.facts import read_schema
from hevlayer.gateway.fetch.decode import read_key
from hevlayer.gateway.relay import Relay
from hevlayer.gateway.router import RouteContext
from hevlayer.kernels.doccache import DocProjection
from hevlayer.stores.doccache import DocumentCache
from hevlayer.stores.turbopuffer import Answer
from hevlayer.wire.bodies import JSON_CONTENT_TYPE, encode
from hevlayer.wire.headers import replaced

IDS_MAX = 100
VECTOR_ATTRIBUTE = "vector"
_UINT_LIMIT = 1 << 64

Id = str | int
Row = dict[str, Any]
_VECTOR = DocProjection([VECTOR_ATTRIBUTE])


class UpstreamRefusedError(Exception):
    """The upstream answered the read of the vectors with an error, which is relayed as it is."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"the upstream answered {answer.status}")
        self.answer = answer


class StoredVectors:
    """Reads vectors by id; one upstream request for all ids of a query that are not cached, none when all are."""

    def __init__(self, relay: Relay, cache: DocumentCache) -> None:
        self._relay = relay
        self._cache = cache

    async def mean(self, context: RouteContext, ids: Sequence[Id], view: NamespaceView) -> bytes:
        """The mean of the documents' vectors, as JSON text for a query (base64 of little-endian float32).

        Raises: ValidationError: too many ids, or a document without a vector. NotFoundError: names the ids that do
            not exist. UpstreamRefusedError; UpstreamError, GatewayTimeoutError.
        """
        id_type = view.id_type or await self._id_type(context)
        wanted = distinct_ids(ids, id_type)
        found = await self._cached(context, wanted, id_type)
        absent = [each for each in wanted if id_text(each) not in found]
        if absent:
            found |= await self._stored(context, absent)
        missing = [each for each in wanted if id_text(each) not in found]
        if missing:
            names = ", ".join(encode(each).decode() for each in missing)
            raise NotFoundError(f"nearest_to_id: no document with id {names} in namespace '{context.namespace}'")
        return orjson.dumps(mean_vector(stored_vector(found[id_text(each)]) for each in wanted))

    async def _cached(self, context: RouteContext, wanted: Sequence[Id], id_type: str | None) -> dict[str, Row]:
        """The cached documents that have a vector, by `id_text`."""
        # Others must prove first that they may see what we hold, which costs what it saves.
        if id_type is None or not context.credential.trusted or not self._cache.enabled:
            return {}
        keys = {id_text(each): read_key(str(each), id_type) for each in wanted}
        known = {text: key for text, key in keys.items() if key is not None}
        batch = await self._cache.lookup_many(context.namespace, list(known.values()), _VECTOR)
        found: dict[str, Row] = {}
        for text, document in zip(known, batch.documents, strict=True):
            attributes = orjson.loads(document)["attributes"] if document is not None else {}
            if attributes.get(VECTOR_ATTRIBUTE) is not None:
                found[text] = attributes
        return found

    async def _stored(self, context: RouteContext, wanted: Sequence[Id]) -> dict[str, Row]:
        """The upstream's rows, by `id_text`. Raises: UpstreamRefusedError; UpstreamError, GatewayTimeoutError."""
        body = orjson.dumps(
            {
                "filters": ["id", "In", wanted],
                "rank_by": ["id", "asc"],
                "limit": len(wanted),
                "include_attributes": [VECTOR_ATTRIBUTE],
                "vector_encoding": "base64",
            }
        )
        headers = replaced(self._relay.headers(context, identity=True), *JSON_CONTENT_TYPE)
        headers = [pair for pair in headers if pair[0] != b"content-encoding"]
        answer = await self._relay.send(context, headers, body)
        if answer.status != 200:
            raise UpstreamRefusedError(answer)
        return {id_text(row.get("id")): row for row in read_rows(await self._relay.upstream.whole(answer))}

    async def _id_type(self, context: RouteContext) -> str | None:
        """The type of the namespace's ids by its schema; None when the upstream does not tell."""
        status, body = await self._relay.upstream.metadata(context.namespace, context.credential.bearer)
        if status != 200:
            return None
        try:
            return read_schema(orjson.loads(body)["schema"]).id_type
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None


def distinct_ids(ids: Sequence[Id], id_type: str | None) -> list[Id]:
    """The ids in the namespace's own type, each once, in order.

    Raises: ValidationError: none, too many, or an id that the type does not allow.
    """
    if not ids:
        raise ValidationError("nearest_to_id: must name at least one id")
    if len(ids) > IDS_MAX:
        raise ValidationError(f"nearest_to_id: at most {IDS_MAX} ids, has {len(ids)}")
    typed = [_typed(each, id_type) for each in ids]
    return list({id_text(each): each for each in typed}.values())


def _typed(given: Id, id_type: str | None) -> Id:
    if id_type != "uint" or isinstance(given, int):
        return given if isinstance(given, int) and id_type != "string" else str(given)
    if given.isascii() and given.isdigit() and int(given) < _UINT_LIMIT:
        return int(given)
    raise ValidationError(f"nearest_to_id: this namespace has unsigned integer ids, not {encode(given).decode()}")


def id_text(value: object) -> str:
    """One text for an id, however it is spelled: uuids are compared without case and punctuation."""
    text = str(value)
    compact = text.lower().removeprefix("urn:uuid:").strip("{}").replace("-", "")
    is_uuid = len(compact) == 32 and all(digit in "0123456789abcdef" for digit in compact)
    return compact if is_uuid else text


def read_rows(body: bytes) -> list[Row]:
    """Raises: UpstreamError: not a query answer with rows."""
    try:
        rows = orjson.loads(body)["rows"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise UpstreamError("the upstream's answer to the read of the stored vectors has no rows") from error
    if not isinstance(rows, list):
        raise UpstreamError("the upstream's answer to the read of the stored vectors has no rows")
    return rows


def stored_vector(row: Row) -> "array[float]":
    """A row's vector as float32. Raises: ValidationError: it has none. UpstreamError: it cannot be read."""
    value = row.get(VECTOR_ATTRIBUTE)
    if value is None:
        raise ValidationError(f"nearest_to_id: document {encode(row.get('id')).decode()} has no vector")
    vector = array("f")
    try:
        if isinstance(value, str):
            vector.frombytes(base64.b64decode(value, validate=True))
        else:
            vector.extend(value)
    except (ValueError, TypeError) as error:
        raise UpstreamError("the upstream's answer has a vector that cannot be read") from error
    return vector


def mean_vector(vectors: Iterable["array[float]"]) -> str:
    """The component-wise mean, base64 of little-endian float32. Raises: ValidationError: dimensions differ."""
    each = list(vectors)
    if len({len(vector) for vector in each}) != 1:
        raise ValidationError("nearest_to_id: the documents' vectors differ in dimension")
    mean = each[0] if len(each) == 1 else array("f", [sum(parts) / len(each) for parts in zip(*each, strict=True)])
    return base64.b64encode(mean.tobytes()).decode("ascii")
