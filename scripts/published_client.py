"""Runs the published client `hevlayer` from PyPI against a gateway: every operation whose route exists, plain and with
timing, its errors, and what it is told of routes that do not exist yet.

The client has the same import name as this project, so it lives in an environment of its own, kept in
`tests/contract/vendor/` (not in version control) and reused. The checks are in `tests/contract/clients/published/`.

    python scripts/published_client.py --base-url http://127.0.0.1:8080
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from client_environments import CACHE, ROOT, Counts, prepare_environment, report_counts, run_pytest

VERSION = "0.7.3"
PACKAGES = (
    f"hevlayer=={VERSION}",
    "httpx==0.28.1",
    "pydantic==2.14.3",
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
)
CHECKS = ROOT / "tests" / "contract" / "clients" / "published"


def run_checks(base_url: str, *, api_key: str, any_key: bool, selection: tuple[str, ...] = ()) -> Counts:
    """Runs the checks and counts their outcomes.

    Args:
        any_key: whoever judges the key takes any; the check of a wrong one is then left out.
        selection: more arguments for pytest, such as `-k name`.
    Raises: SystemExit: they did not run to their end.
    """
    python = prepare_environment(CACHE / "published-venv", PACKAGES)
    environment = {"LAYER_TEST_URL": base_url, "LAYER_TEST_KEY": api_key}
    if any_key:
        environment["LAYER_TEST_ANY_KEY"] = "1"
    return run_pytest(python, CHECKS, ["-p", "no:cacheprovider", *selection], environment)


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the published client's checks against a gateway.")
    parser.add_argument("--base-url", required=True, help="e.g. http://127.0.0.1:8080")
    parser.add_argument("--api-key", default="tpuf_local", help="bearer token to send")
    parser.add_argument(
        "--checks-keys", action="store_true", help="the gateway refuses a wrong key, so check that it does"
    )
    parser.add_argument("selection", nargs="*", help="more arguments for pytest, after --")
    arguments = parser.parse_args()
    counts = run_checks(
        arguments.base_url,
        api_key=arguments.api_key,
        any_key=not arguments.checks_keys,
        selection=tuple(arguments.selection),
    )
    return report_counts(f"published client {VERSION}", counts)


if __name__ == "__main__":
    sys.exit(main())
