#!/usr/bin/env bash
# Lint, types, layers and formatting. Changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n\033[1mcheck: %s\033[0m\n' "$*"; "$@"; }

step .venv/bin/ruff check .
step .venv/bin/ruff format --check .
step .venv/bin/mypy
step .venv/bin/lint-imports
step .venv/bin/stubtest hevlayer._native --mypy-config-file pyproject.toml --allowlist scripts/stubtest_allowed.txt
step cargo fmt --all --check
step cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
step .venv/bin/python scripts/make_docs.py --check
step .venv/bin/python scripts/check_links.py
step scripts/docs.sh
step .venv/bin/python scripts/make_client.py --check
step .venv/bin/python scripts/check_client_types.py
step scripts/check_text.sh
