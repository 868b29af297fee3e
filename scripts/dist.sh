#!/usr/bin/env bash
# Builds the wheel and shows that it works alone: installed into an empty environment, `hevlayer dev` answers.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf dist
echo "dist: building the wheel"
. scripts/release_flags.sh
PATH="$PWD/.venv/bin:$PATH" VIRTUAL_ENV="$PWD/.venv" .venv/bin/maturin build --release --locked --out dist
wheel=$(ls dist/*.whl)
echo "dist: trying $wheel in an empty environment"
.venv/bin/python scripts/try_wheel.py "$wheel"
