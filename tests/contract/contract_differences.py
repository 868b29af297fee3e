"""Where an answer through the gateway is meant to differ from the upstream's, and why. Nothing else may differ."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

Check = Callable[[object, str], bool]
"""(the added value, the request's namespace) -> is it what it should be?"""


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_watermark(value: object, _namespace: str = "") -> bool:
    return value is None or (_is_whole(value) and 0 < value <= time.time() * 1000)


def _is_layer_block(value: object, _namespace: str) -> bool:
    return (
        isinstance(value, dict)
        and value.keys()
        == {"stable_as_of", "is_stable", "cache_state", "shard_count", "shard_state", "scatter_gather_active"}
        and (value["shard_count"], value["shard_state"], value["scatter_gather_active"]) == (1, "unsharded", False)
        and is_watermark(value["stable_as_of"])
        and isinstance(value["is_stable"], bool)
        and _is_cache_state(value["cache_state"])
    )


def _is_cache_state(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"state", "warmed_through_ms", "warm_inflight"}
        and value["state"] in ("cold", "warming", "warm")
        and (value["warmed_through_ms"] is not None) == (value["state"] == "warm")
        and isinstance(value["warm_inflight"], bool)
    )


def _is_cleanup(value: object, _namespace: str) -> bool:
    steps = ["watermark", "listing", "document_cache", "jobs", "history", "shards", "snapshots"]
    return value == {"cleanup": "done", "steps": [{"step": step, "status": "done"} for step in steps]}


def _is_step(*statuses: str) -> Check:
    def check(value: object, _namespace: str) -> bool:
        return isinstance(value, dict) and value["enabled"] is True and value["status"] in statuses

    return check


@dataclass(frozen=True)
class Addition:
    """Keys that the gateway adds to the JSON of a successful answer. `optional` ones may be missing."""

    method: str
    path: str
    keys: Mapping[str, Check]
    reason: str
    optional: bool = False


ADDITIONS = (
    Addition(
        "GET|PATCH",
        r"/v[12]/namespaces/([^/]+)/metadata",
        {"id": lambda value, namespace: value == namespace, "layer": _is_layer_block},
        "clients of the layer require the name in `id`, and read the watermark in `layer`",
    ),
    Addition(
        "POST",
        r"/v2/namespaces/([^/]+)/query",
        {"stable_as_of": is_watermark},
        "the time up to which the answer is complete; missing until the namespace was polled",
        optional=True,
    ),
    Addition(
        "DELETE",
        r"/v2/namespaces/([^/]+)",
        {"layer": _is_cleanup},
        "what the gateway itself held of the namespace is deleted too, and the answer says so",
    ),
    Addition(
        "GET",
        r"/v1/namespaces/([^/]+)/hint_cache_warm",
        {
            "namespace": lambda value, namespace: value == namespace,
            "turbopuffer": _is_step("started"),
            "documents": _is_step("started", "running", "completed"),
            "snapshots": _is_step("no_snapshot"),
        },
        "clients of the layer read what each step of warming did",
    ),
)

STATUSES = {
    # what the origin does: (its status or None for a broken connection, the gateway's status, why)
    "a method that a known path does not have": (
        404,
        405,
        "the gateway names the methods that the path has, in `allow`",
    ),
    "the connection breaks before the answer is whole": (
        None,
        502,
        "the connection to the client is intact, so it gets an answer that says what happened upstream",
    ),
}


def take_additions(method: str, target: str, held: object) -> frozenset[str]:
    """The keys that the gateway added to a successful answer, after a look at each of their values.

    Raises: AssertionError: one is missing or has another shape than documented.
    """
    path = urlsplit(target).path
    for addition in ADDITIONS:
        found = re.fullmatch(addition.path, path)
        if found is None or not re.fullmatch(addition.method, method):
            continue
        assert isinstance(held, dict)
        there = {key for key in addition.keys if key in held}
        assert addition.optional or there == addition.keys.keys(), held
        for key in there:
            assert addition.keys[key](held[key], unquote(found[1])), (key, held[key])
        return frozenset(there)
    return frozenset()
