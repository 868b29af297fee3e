#!/usr/bin/env bash
# Passes every test. Each stage says what it does and how long it took.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/system_packages.sh go node victoria-metrics

stage() {
  local name=$1; shift
  printf '\n\033[1mtest: %s\033[0m\n' "$name"
  local start=$SECONDS
  "$@"
  printf 'test: %s took %d s\n' "$name" $((SECONDS - start))
}

stage "Rust" cargo test --locked --quiet --workspace --exclude hevlayer-py
stage "Python" .venv/bin/python -m pytest tests
stage "the wheel, alone in an empty environment" scripts/dist.sh
