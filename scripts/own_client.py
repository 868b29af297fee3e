"""Runs the checks of the published client with the client of this project in its place: what ran with that one runs
with this one, asynchronous and synchronous.

    python scripts/own_client.py --base-url http://127.0.0.1:8080 --kind sync
"""

import argparse
import sys
from pathlib import Path
from typing import Literal, get_args

sys.path.insert(0, str(Path(__file__).resolve().parent))

import published_client
from client_environments import ROOT, Counts, report_counts, run_pytest

Kind = Literal["async", "sync"]
# What this client does not offer, it has no methods for.
_LEFT_OUT = "not test_routes_that_this_version_does_not_have"


def run_checks(base_url: str, kind: Kind, *, api_key: str, any_key: bool, selection: tuple[str, ...] = ()) -> Counts:
    """Runs the checks and counts their outcomes; arguments as of `published_client.run_checks`.

    Raises: SystemExit: they did not run to their end.
    """
    environment = {
        "LAYER_TEST_URL": base_url,
        "LAYER_TEST_KEY": api_key,
        "LAYER_TEST_CLIENT": kind,
        "PYTHONPATH": str(ROOT / "python"),
    }
    if any_key:
        environment["LAYER_TEST_ANY_KEY"] = "1"
    arguments = ["-p", "no:cacheprovider", "-k", _LEFT_OUT, *selection]
    return run_pytest(Path(sys.executable), published_client.CHECKS, arguments, environment)


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the published client's checks with our own client.")
    parser.add_argument("--base-url", required=True, help="e.g. http://127.0.0.1:8080")
    parser.add_argument("--kind", choices=get_args(Kind), default="async", help="which of the two classes")
    parser.add_argument("--api-key", default="tpuf_local", help="bearer token to send")
    parser.add_argument("selection", nargs="*", help="more arguments for pytest, after --")
    arguments = parser.parse_args()
    counts = run_checks(
        arguments.base_url,
        arguments.kind,
        api_key=arguments.api_key,
        any_key=True,
        selection=tuple(arguments.selection),
    )
    return report_counts(f"own client, {arguments.kind}", counts)


if __name__ == "__main__":
    sys.exit(main())
