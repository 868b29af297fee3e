#!/usr/bin/env bash
# Builds the wheel and shows that it works alone: installed into an empty environment, `hevlayer dev` answers.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf dist
echo "dist: building the wheel"
# Messages of panics name source files: as seen from the project and from cargo's folder, not from this machine.
# Other flags mean another build, so it has a target of its own.
export CARGO_TARGET_DIR="$PWD/target/dist"
export RUSTFLAGS="--remap-path-prefix=$PWD=hevlayer --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=crates"
PATH="$PWD/.venv/bin:$PATH" VIRTUAL_ENV="$PWD/.venv" .venv/bin/maturin build --release --locked --out dist
wheel=$(ls dist/*.whl)
echo "dist: trying $wheel in an empty environment"
.venv/bin/python scripts/try_wheel.py "$wheel"
