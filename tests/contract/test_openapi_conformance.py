"""Generated requests, well and badly formed, against a gateway in front of a real origin: every answer is documented.

`OPENAPI_EXAMPLES` sets how many requests each operation gets, for longer runs.
"""

import os
import re
import zlib
from collections import Counter

import pytest
import requests
import schemathesis
from contract_support import CALL_TIMEOUT_SECONDS, Target, start_gateway
from hypothesis import HealthCheck, given, seed, settings
from openapi_stage import fill, narrowed_document, sharpened_document
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "15"))
KEY = "gateway-key"
CHECKS = [
    allow_header_conformance,
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]


def operations(document: dict) -> dict[str, schemathesis.APIOperation]:
    found = schemathesis.openapi.from_dict(document).get_all_operations()
    return {each.label: each for each in (result.ok() for result in found)}


OPERATIONS = operations(narrowed_document())
SHARP = {label: each for label, each in operations(sharpened_document()).items() if "{namespace}" in label}
# Without a body, a query string or a rule for a name there is nothing to send that could be wrong.
NEGATABLE = [label for label, each in OPERATIONS.items() if each.body or each.query or "{namespace}" in label]
# A 5xx that is meant, and what its body says: no metrics store is configured, and the upstream answers 500 to a cursor
# that it did not make.
MEANT = {label: (503, "no metrics store") for label in OPERATIONS if re.search("/v2/metrics/(query|api)", label)}
MEANT |= dict.fromkeys(("GET /v1/namespaces", "GET /v2/namespaces"), (500, "Unknown error"))
# Without a key of its own, a gateway keeps a name's place in the cache for a minute after its namespace was replaced.
MEANT["POST /v2/namespaces/{namespace}/warm"] = (503, "another namespace of this name")
MEANT["POST /v2/namespaces/{namespace}/scans"] = (503, "does not hold every row")
MEANT["POST /v2/namespaces/{namespace}/snapshots"] = (503, "does not hold every row")
# What the local origin does not have.
NOT_THERE = ("read_only_optimize", "/v1/vectors/", "explain_query", "operations/{token}")
# A namespace is deleted once and cut into one number of shards; not every generated id is a document's, none a job's.
NOT_ALWAYS_THERE = (
    "POST /v2/namespaces/{namespace}/init",
    "DELETE /v2/namespaces/{namespace}",
    "GET /v2/namespaces/{namespace}/documents/{doc_id}",
    "POST /v2/namespaces/{namespace}/warm",
    "GET /v2/namespaces/{namespace}/warm-jobs/{job_id}",
    "DELETE /v2/namespaces/{namespace}/warm-jobs/{job_id}",
    "GET /v2/namespaces/{namespace}/scans/{job_id}",
    "GET /v2/namespaces/{namespace}/scans/{job_id}/results",
    "DELETE /v2/namespaces/{namespace}/scans/{job_id}",
    "GET /v2/namespaces/{namespace}/snapshots/{sha}",
    "GET /v2/namespaces/{namespace}/snapshot-jobs/{job_id}",
    "DELETE /v2/namespaces/{namespace}/snapshot-jobs/{job_id}",
)
# A list of tags, a cursor and a place in the history have a grammar that the document describes in words.
WORDED = ("/search-history", "/clickstream", "/history")
SUCCEEDS = [
    label
    for label in SHARP
    if label not in NOT_ALWAYS_THERE
    and not label.endswith(WORDED)
    and not any(part in label for part in NOT_THERE)
    and not label.endswith(" /v1/namespaces/{namespace}")
]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """A gateway with a key of its own."""
    with start_gateway(tmp_path_factory.mktemp("keyed"), key=KEY) as target:
        yield target


@pytest.fixture(scope="module")
def passing(tmp_path_factory):
    """A gateway that passes the caller's bearer through."""
    with start_gateway(tmp_path_factory.mktemp("passing")) as target:
        yield target


@pytest.fixture(scope="module")
def session():
    with requests.Session() as made:
        yield made


def run(operation: schemathesis.APIOperation, mode: GenerationMode, gateway: Target, session) -> Counter:
    """Sends generated requests of one operation; how often each status came."""
    label = operation.label
    examples = EXAMPLES if "{namespace}" in label and not any(part in label for part in NOT_THERE) else EXAMPLES // 5
    statuses: Counter = Counter()
    # Any bearer is good for the origin: only with a key can a wrong one be told.
    checks = CHECKS if gateway.token == KEY else [check for check in CHECKS if check is not ignored_auth]
    headers = {"Authorization": f"Bearer {gateway.token}"}

    @seed(zlib.crc32(f"{mode}{label}".encode()))
    @settings(max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        response = case.call(gateway.base_url, session, headers, timeout=CALL_TIMEOUT_SECONDS)
        statuses[response.status_code] += 1
        status, text = MEANT.get(label, (None, ""))
        is_meant = response.status_code == status and text in response.text
        case.validate_response(
            response,
            checks=checks if is_meant else [not_a_server_error, *checks],
            headers=headers,
            transport_kwargs={"session": session, "timeout": CALL_TIMEOUT_SECONDS},
        )

    fill(gateway)
    send()
    return statuses


@pytest.mark.parametrize("label", OPERATIONS)
def test_well_formed_requests(label, keyed, session):
    assert run(OPERATIONS[label], GenerationMode.POSITIVE, keyed, session).total() > 0


@pytest.mark.parametrize("label", NEGATABLE)
def test_badly_formed_requests(label, keyed, session):
    assert run(OPERATIONS[label], GenerationMode.NEGATIVE, keyed, session).total() > 0


@pytest.mark.parametrize("label", SHARP)
def test_requests_that_suit_the_documents(label, passing, session):
    statuses = run(SHARP[label], GenerationMode.POSITIVE, passing, session)
    if label in SUCCEEDS:
        assert set(statuses) <= {200, 202}, statuses
