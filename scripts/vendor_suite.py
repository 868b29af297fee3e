"""Runs the vendor's own live tests, unchanged, against a base URL.

The tests come from the source distribution of the official Python client. Download and environment are kept in
`tests/contract/vendor/` (not in version control) and reused.

    python scripts/vendor_suite.py --base-url http://127.0.0.1:8081
"""

import argparse
import hashlib
import shutil
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from client_environments import CACHE, Counts, pip, prepare_environment, report_counts, run_pytest

VERSION = "3.1.0"
SDIST_SHA256 = "8ae6e7229063814e556026c79d0abebda0e2e5d9a833214bcefc709f64bfcf70"
PACKAGES = (
    f"turbopuffer=={VERSION}",
    "dirty-equals==0.11",
    "numpy==2.4.6",
    "pytest==9.0.2",
    "pytest-asyncio==1.3.0",
    "pytest-xdist==3.8.0",
    "time-machine==3.5.1",
    "urllib3==2.5.0",
)


def fetch_sources(cache: Path) -> Path:
    """The unpacked source distribution.

    Raises: SystemExit: what was downloaded is not the file this script knows.
    """
    archive = cache / f"turbopuffer-{VERSION}.tar.gz"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        pip(
            sys.executable,
            "download",
            f"turbopuffer=={VERSION}",
            "--no-deps",
            "--no-binary=turbopuffer",
            "-d",
            str(cache),
        )
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SDIST_SHA256:
        archive.unlink()
        raise SystemExit(f"{archive.name}: sha256 is {digest}, expected {SDIST_SHA256}")
    sources = cache / f"turbopuffer-{VERSION}"
    # Unpacked anew each time, so that the tests are certainly the published ones.
    shutil.rmtree(sources, ignore_errors=True)
    with tarfile.open(archive) as bundle:
        bundle.extractall(cache, filter="data")
    return sources


def run_suite(base_url: str, *, api_key: str, selection: tuple[str, ...] = (), workers: int = 2) -> Counts:
    """Runs `tests/custom` and counts its outcomes.

    Args:
        base_url: may hold the placeholder `{region}`.
        selection: more arguments for pytest, such as `-k name`.
    Raises: SystemExit: the suite did not run to its end.
    """
    sources = fetch_sources(CACHE)
    python = prepare_environment(CACHE / "venv", PACKAGES)
    environment = {"TURBOPUFFER_BASE_URL": base_url, "TURBOPUFFER_API_KEY": api_key}
    return run_pytest(python, sources, ["tests/custom", "-n", str(workers), *selection], environment)


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the vendor's live tests against a base URL.")
    parser.add_argument(
        "--base-url", required=True, help="e.g. http://127.0.0.1:8081 or http://127.0.0.1:8081/{region}"
    )
    parser.add_argument("--api-key", default="tpuf_local", help="bearer token to send")
    parser.add_argument("--workers", type=int, default=2, help="processes that run tests")
    parser.add_argument("selection", nargs="*", help="more arguments for pytest, after --")
    arguments = parser.parse_args()
    counts = run_suite(
        arguments.base_url,
        api_key=arguments.api_key,
        selection=tuple(arguments.selection),
        workers=arguments.workers,
    )
    return report_counts(f"vendor suite {VERSION}", counts)


if __name__ == "__main__":
    sys.exit(main())
