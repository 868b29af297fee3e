"""Schemas of writes and schema changes."""

from hevlayer.gateway.openapi.shapes import (
    Schema,
    anything,
    array,
    boolean,
    described,
    either,
    integer,
    mapping,
    nullable,
    number,
    obj,
    ref,
    string,
    words,
)

_ID, _NAME, _FILTER, _VALUE = ref("Id"), ref("AttributeName"), ref("Filter"), ref("AttributeValue")
_LANGUAGES = (
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
)

_NATIVE_PATCHES: dict[str, Schema] = {
    "patch_rows": array(ref("Row"), "Changes the named attributes of documents that exist; vectors cannot be patched."),
    "patch_columns": ref("Columns"),
    "patch_by_filter": obj({"filters": _FILTER, "patch": mapping(_VALUE, names=_NAME)}, ["filters", "patch"]),
    "patch_by_filter_allow_partial": boolean(),
    "patch_condition": _FILTER,
    "return_affected_ids": boolean(),
    "schema": ref("SchemaChange"),
    "distance_metric": ref("DistanceMetric"),
}

SCHEMAS: dict[str, Schema] = {
    "Row": {
        **obj({"id": _ID, "vector": nullable(ref("Vector"))}, ["id"], "One document: its id and its attributes, flat."),
        "additionalProperties": _VALUE,
    },
    "Columns": {
        **obj({"id": array(_ID)}, ["id"], "Documents as columns of one length; null is no value."),
        "additionalProperties": either(array(_VALUE), {"type": "string", "contentEncoding": "base64"}),
    },
    "FullTextSearch": obj(
        {
            "tokenizer": words("word_v0", "word_v1", "word_v2", "word_v3", "word_v4", "pre_tokenized_array"),
            "language": words(*_LANGUAGES),
            "stemming": boolean(),
            "remove_stopwords": boolean(),
            "case_sensitive": boolean(),
            "ascii_folding": boolean(),
            "max_token_length": integer(minimum=1, maximum=254),
            "k1": number(minimum=0),
            "b": number(minimum=0, maximum=1),
            "k3": number(minimum=0),
        }
    ),
    "AttributeSchema": either(
        string("The type alone."),
        obj(
            {
                "type": string(
                    "`string`, `int`, `uint`, `float`, `bool`, `uuid`, `datetime`, `[]` of these, `[N]f32`, …"
                ),
                "filterable": boolean(),
                "full_text_search": either(boolean(), ref("FullTextSearch")),
                "regex": boolean(),
                "glob": boolean(),
                "fuzzy": boolean(),
                "ann": either(boolean(), obj({"distance_metric": ref("DistanceMetric")})),
                "sparse_knn": obj({"distance_metric": {"const": "dot_product"}}),
            },
            ["type"],
        ),
        obj({"drop": {"const": True}}, ["drop"], "Removes the attribute."),
    ),
    "SchemaChange": mapping(ref("AttributeSchema"), names=_NAME),
    "Encryption": obj(
        {
            "mode": words("default", "customer-managed"),
            "key_name": string(),
            "encryption_context": mapping(string()),
        },
        ["mode"],
    ),
    "CopySource": either(
        string("The source namespace."),
        obj(
            {
                "source_namespace": string(),
                "source_api_key": string("A secret; never logged.", format="password"),
                "source_region": string(),
                "dest_encryption": ref("Encryption"),
            },
            ["source_namespace"],
        ),
    ),
    "BranchSource": either(string(), obj({"source_namespace": string()}, ["source_namespace"])),
    "NativeWrite": obj(
        {
            "upsert_rows": array(ref("Row"), "Replaces documents, or creates them."),
            "upsert_columns": ref("Columns"),
            **_NATIVE_PATCHES,
            "deletes": array(_ID),
            "delete_by_filter": _FILTER,
            "delete_by_filter_allow_partial": boolean(),
            "upsert_condition": _FILTER,
            "delete_condition": _FILTER,
            "encryption": ref("Encryption"),
            "disable_backpressure": boolean(),
            "copy_from_namespace": ref("CopySource"),
            "branch_from_namespace": ref("BranchSource"),
            "sharding": obj({"num_shards": integer(minimum=1, maximum=256)}, ["num_shards"]),
            "create_namespace": boolean("Whether the namespace may, or must not, be made by this write."),
        },
        text="A write as the upstream has it. Every upserted and patched row gets `_hevlayer_upserted_at`.",
    ),
    "LayerUpsert": obj(
        {"id": _ID, "vector": nullable(ref("Vector")), "attributes": mapping(_VALUE, names=_NAME)}, ["id"]
    ),
    "LayerPatch": obj({"id": _ID, "attributes": mapping(_VALUE, names=_NAME)}, ["id"]),
    "LayerWrite": {
        **obj(
            {
                "upserts": array(ref("LayerUpsert")),
                "patches": array(ref("LayerPatch")),
                "deletes": array(_ID),
                "distance_metric": described(
                    ref("DistanceMetric"), "The namespace's own, else `cosine_distance`, when it is not given."
                ),
            },
            text="The Layer dialect: rows with their attributes apart. Not together with native fields.",
        ),
        "anyOf": [{"required": ["upserts"]}, {"required": ["patches"]}],
    },
    "WriteRequest": either(ref("NativeWrite"), ref("LayerWrite")),
    "PatchRequest": {
        **obj({**_NATIVE_PATCHES, "patches": array(ref("LayerPatch"), least=1)}, text="A write that only patches."),
        "anyOf": [{"required": [name]} for name in ("patches", "patch_rows", "patch_columns", "patch_by_filter")],
    },
    "WriteAnswer": obj(
        {
            "status": {"const": "OK"},
            "message": string(),
            "rows_affected": integer(minimum=0),
            "rows_upserted": integer(minimum=0),
            "rows_patched": integer(minimum=0),
            "rows_deleted": integer(minimum=0),
            "rows_remaining": boolean("A write by filter reached its limit; send it again."),
            "upserted_ids": array(_ID),
            "patched_ids": array(_ID),
            "deleted_ids": array(_ID),
            "billing": obj(
                {"billable_logical_bytes_written": integer(minimum=0), "query": ref("QueryBilling")},
                ["billable_logical_bytes_written"],
            ),
            "performance": obj({"server_total_ms": integer(minimum=0)}),
        },
        ["status", "message", "rows_affected", "billing"],
    ),
    "OperationStarted": obj(
        {"token": string()}, ["token"], "A long operation goes on by itself; poll it by its token."
    ),
    "OperationState": either(
        obj({"status": {"const": "running"}, "start_time": string(), "progress": anything()}, ["status"]),
        obj(
            {
                "status": {"const": "finished"},
                "start_time": string(),
                "finish_time": string(),
                "result": either(
                    obj({"success": obj({})}, ["success"]),
                    obj({"error": obj({"status_code": integer(), "detail": anything()}, ["status_code"])}, ["error"]),
                ),
            },
            ["status", "result"],
        ),
    ),
    "CopyRequest": obj({"copy_from_namespace": ref("CopySource")}, ["copy_from_namespace"]),
    "LegacyWrite": obj(
        {
            "ids": array(_ID),
            "vectors": nullable(array(nullable(ref("Vector")))),
            "attributes": mapping(array(_VALUE)),
        },
        text="The older write: columns, where a null vector deletes.",
    ),
}
