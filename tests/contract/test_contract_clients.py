"""The official clients, unchanged, against each target: the vendor's Python suite, TypeScript and Go."""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from contract_support import ROOT, start_gateway

sys.path.insert(0, str(ROOT / "scripts"))

import own_client
import published_client
import vendor_suite

CLIENTS = Path(__file__).parent / "clients"
INSTALLED = Path(__file__).parent / "vendor"
INSTALL_TIMEOUT_SECONDS = 300
RUN_TIMEOUT_SECONDS = 300
# Of these, 32 talk to the server. Without a key they would be skipped, hence the exact numbers.
VENDOR_TESTS_PASSED = 139
# Switched off by the vendor.
VENDOR_TESTS_SKIPPED = 5
# Of the published client; the check of a wrong key needs a gateway that judges keys itself.
PUBLISHED_CHECKS = 156
POLL_INTERVAL_MS = "50"
# An index that never catches up while a suite runs.
INDEX_LAG_MS = 3_600_000
# This one asks for eventual reads itself; it fails against a lagging origin without a gateway too.
READS_EVENTUALLY = frozenset({"test_vectors::test_query_vectors@group1"})
# These search for what they have just written. A stable read shows what is indexed, so under an index that never
# catches up they find nothing.
SEARCHES_UNINDEXED_ROWS = READS_EVENTUALLY | {
    "test_async::test_order_by_attribute",
    "test_bm25::test_bm25",
    "test_bm25::test_bm25_ContainsAllTokens",
    "test_bm25::test_bm25_pre_tokenized_array",
    "test_bm25::test_bm25_product_operator",
    "test_compression::test_async_compression_enabled_large_request",
    "test_compression::test_compression_enabled_large_request",
    "test_copy_from_namespace::test_copy_from_namespace",
    "test_order_by::test_order_by_attribute",
    "test_patch::test_patches",
    "test_performance::test_perf_metrics",
    "test_vectors::test_attribute_types",
    "test_vectors::test_delete_by_filter",
    "test_vectors::test_delete_vectors@group1",
    "test_vectors::test_query_vectors_vector_encoding_format",
    "test_vectors::test_string_ids",
    "test_vectors::test_upsert_base64_vectors",
    "test_vectors::test_upsert_columns@group1",
    "test_vectors::test_upsert_rows@group1",
}


def required(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        pytest.fail(f"`{tool}` is not installed; the contract with the official clients cannot be checked without it")
    return found


def run(command: list[str], cwd: Path, timeout: int, **environment: str) -> str:
    finished = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=timeout,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout[-8000:]
    return finished.stdout


def test_the_vendor_s_python_suite(target):
    counts = vendor_suite.run_suite(target.base_url + "/{region}", api_key=target.token)
    assert counts.failures == ()
    assert (counts.passed, counts.skipped) == (VENDOR_TESTS_PASSED, VENDOR_TESTS_SKIPPED)


@pytest.mark.parametrize(
    ("mode", "failures"),
    [("upstream", READS_EVENTUALLY), ("strong", SEARCHES_UNINDEXED_ROWS)],
    ids=["upstream", "strong"],
)
def test_the_vendor_s_python_suite_while_the_index_lags(tmp_path, mode, failures):
    with start_gateway(tmp_path, "--consistency", mode, index_lag_ms=INDEX_LAG_MS) as target:
        counts = vendor_suite.run_suite(target.base_url + "/{region}", api_key=target.token)
    assert {failure.removeprefix("tests.custom.") for failure in counts.failures} == failures
    assert counts.passed == VENDOR_TESTS_PASSED - len(failures)
    assert counts.skipped == VENDOR_TESTS_SKIPPED


@pytest.mark.parametrize("key", ["", "gateway-key"], ids=["pass-through", "key"])
def test_the_published_client(tmp_path, key):
    with start_gateway(tmp_path, "--consistency-poll-interval-ms", POLL_INTERVAL_MS, key=key) as target:
        counts = published_client.run_checks(target.base_url, api_key=target.token, any_key=not key)
    assert counts.failures == ()
    assert (counts.passed, counts.skipped) == ((PUBLISHED_CHECKS, 0) if key else (PUBLISHED_CHECKS - 1, 1))


def checks_of_later_routes() -> int:
    """How many of the published client's checks are about routes that this version does not have."""
    module = ast.parse((published_client.CHECKS / "checks_errors.py").read_text())
    (later,) = [
        node.value
        for node in module.body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["LATER"]
    ]
    return len(later.elts)


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_our_own_client(tmp_path, kind):
    """The same checks; for what this version does not have, our client has no methods."""
    with start_gateway(tmp_path, "--consistency-poll-interval-ms", POLL_INTERVAL_MS, key="gateway-key") as target:
        counts = own_client.run_checks(target.base_url, kind, api_key=target.token, any_key=False)
    assert counts.failures == ()
    assert (counts.passed, counts.skipped) == (PUBLISHED_CHECKS - checks_of_later_routes(), 0)


def test_the_typescript_client(target):
    node, npm = required("node"), required("npm")
    directory = INSTALLED / "ts"
    directory.mkdir(parents=True, exist_ok=True)
    for source in (CLIENTS / "ts").iterdir():
        if source.is_file():
            shutil.copyfile(source, directory / source.name)
    stamp = directory / "node_modules" / ".installed"
    wanted = hashlib.sha256((directory / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        run([npm, "ci", "--no-audit", "--no-fund"], directory, INSTALL_TIMEOUT_SECONDS)
        stamp.write_text(wanted)
    output = run(
        [node, "--test", "--test-reporter=tap", "smoke.test.mjs"],
        directory,
        RUN_TIMEOUT_SECONDS,
        TURBOPUFFER_BASE_URL=target.base_url + "/{region}",
        TURBOPUFFER_API_KEY=target.token,
    )
    assert int(re.search(r"# pass (\d+)", output)[1]) >= 13
    assert "# skipped 0" in output


def test_the_go_client(target):
    output = run(
        [required("go"), "test", "-count=1", "-v", "./..."],
        CLIENTS / "go",
        RUN_TIMEOUT_SECONDS,
        TURBOPUFFER_BASE_URL=target.base_url + "/REGION",
        TURBOPUFFER_API_KEY=target.token,
        GOFLAGS="-mod=readonly -buildvcs=false",
    )
    assert output.count("--- PASS") >= 8
    assert "--- SKIP" not in output
