"""Schemas that reads and writes share: names, ids, vectors, values, filters, billing and errors."""

from hevlayer.gateway.openapi.shapes import (
    UINT64_MAX,
    Schema,
    anything,
    array,
    boolean,
    either,
    fixed,
    integer,
    mapping,
    nullable,
    number,
    obj,
    ref,
    string,
    words,
)

ERROR_CODES = (
    "bad_request",
    "cache_cold",
    "cache_unavailable",
    "conflict",
    "forbidden",
    "gateway_draining",
    "gateway_timeout",
    "http_version_not_supported",
    "internal_error",
    "method_not_allowed",
    "not_found",
    "not_implemented",
    "not_supported",
    "payload_too_large",
    "precondition_failed",
    "request_header_fields_too_large",
    "request_timeout",
    "service_unavailable",
    "unauthorized",
    "upstream_error",
    "validation_error",
)

_VALUE_OPERATORS = ("Eq", "NotEq", "Lt", "Lte", "Gt", "Gte")
_LIST_OPERATORS = ("In", "NotIn", "ContainsAny", "NotContainsAny")
_ELEMENT_OPERATORS = ("Contains", "NotContains", "AnyLt", "AnyLte", "AnyGt", "AnyGte")
_PATTERN_OPERATORS = ("Glob", "NotGlob", "IGlob", "NotIGlob", "Regex")
_TOKEN_OPERATORS = ("ContainsAllTokens", "ContainsAnyToken", "ContainsTokenSequence")

_SCALAR = ref("Scalar")
_NAME = ref("AttributeName")

SCHEMAS: dict[str, Schema] = {
    "Error": obj(
        {
            "status": {"const": "error"},
            "error": words(*ERROR_CODES, text="What went wrong, as a word for programs."),
            "message": string("What went wrong, for people; it names the field and the rule."),
            "cache_state": {"const": "cold"},
            "request_id": string("With `internal_error`: find the cause in the log by it."),
            "allow": array(string(), "With `method_not_allowed`: the methods of this path."),
            "id": string("With `not_found`: the document that does not exist."),
        },
        ["status", "error", "message"],
        "An error of the gateway itself.",
    ),
    "MalformedBody": obj(
        {"status": {"const": "error"}, "error": string(), "message": string()},
        ["status", "error", "message"],
        "A body that is not JSON; `error` is the text itself, as upstream.",
    ),
    "UpstreamError": obj(
        {
            "status": {"const": "error"},
            "error": string("The upstream's text."),
            "attribute": string("The attribute that a schema change was refused for."),
        },
        ["status", "error"],
        "An error of the upstream, relayed byte for byte.",
    ),
    "AttributeName": string("At most 128 bytes; `$…` and `_hevlayer_…` are reserved.", minLength=1, maxLength=128),
    "Id": either(
        {"type": "integer", "minimum": 0, "maximum": UINT64_MAX},
        {"type": "string", "maxLength": 64},
        text="An unsigned integer, a string of at most 64 bytes, or a UUID; one kind for all of a namespace.",
    ),
    "Scalar": either(string(), number(), integer(), boolean(), {"type": "null"}),
    "AttributeValue": either(
        ref("Scalar"), array(either(string(), number(), boolean())), mapping(number()), ref("Vector")
    ),
    "Vector": either(
        array(number(), least=1, most=10_752),
        {"type": "string", "contentEncoding": "base64"},
        text="Numbers, or base64 of little-endian float32.",
    ),
    "DistanceMetric": words("cosine_distance", "euclidean_squared", "euclidean"),
    "Filter": either(
        fixed(_NAME, words(*_VALUE_OPERATORS), either(_SCALAR, ref("NewValue"))),
        fixed(_NAME, words(*_LIST_OPERATORS), either(array(_SCALAR), _SCALAR)),
        fixed(_NAME, words(*_ELEMENT_OPERATORS), _SCALAR),
        fixed(_NAME, words(*_PATTERN_OPERATORS), string()),
        fixed(
            _NAME,
            words(*_TOKEN_OPERATORS),
            either(string(), array(string())),
            obj({"last_as_prefix": boolean()}),
            optional=1,
        ),
        fixed(_NAME, {"const": "Fuzzy"}, string(), ref("FuzzyOptions"), optional=1),
        fixed(words("And", "Or"), array(ref("Filter"), most=8)),
        fixed({"const": "Not"}, ref("Filter")),
        text="`[attribute, operator, value]`, or `And`, `Or` and `Not` of filters.",
    ),
    "NewValue": obj(
        {"$ref_new": _NAME}, ["$ref_new"], "In conditions of a write: the value that the document would get."
    ),
    "FuzzyOptions": obj(
        {
            "max_edit_distance": array(
                obj(
                    {"min_query_chars": integer(minimum=0), "distance": integer(minimum=0, maximum=2)},
                    ["min_query_chars", "distance"],
                )
            ),
            "case_sensitive": boolean(),
        }
    ),
    "QueryBilling": obj(
        {
            "billable_logical_bytes_queried": integer(minimum=0),
            "billable_logical_bytes_returned": integer(minimum=0),
        },
        ["billable_logical_bytes_queried", "billable_logical_bytes_returned"],
    ),
    "Watermark": nullable(integer("Epoch milliseconds.", minimum=0)),
    "AttributeSchemas": mapping(anything(), "The schema of each attribute, as the upstream writes it."),
}
