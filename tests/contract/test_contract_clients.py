"""The official clients, unchanged, against each target: the vendor's Python suite, TypeScript and Go."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from contract_support import ROOT

CLIENTS = Path(__file__).parent / "clients"
INSTALLED = Path(__file__).parent / "vendor"
INSTALL_TIMEOUT_SECONDS = 300
RUN_TIMEOUT_SECONDS = 300
# Of these, 32 talk to the server. Without a key they would be skipped, hence the exact numbers.
VENDOR_TESTS_PASSED = 139
# Switched off by the vendor.
VENDOR_TESTS_SKIPPED = 5


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


def load_vendor_suite():
    spec = importlib.util.spec_from_file_location("vendor_suite", ROOT / "scripts" / "vendor_suite.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_vendor_s_python_suite(target):
    counts = load_vendor_suite().run_suite(target.base_url + "/{region}", api_key=target.token)
    assert counts.failures == ()
    assert (counts.passed, counts.skipped) == (VENDOR_TESTS_PASSED, VENDOR_TESTS_SKIPPED)


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
