#!/usr/bin/env bash
# Builds the documentation. Every warning is an error: a page outside the contents, a link or an anchor that leads nowhere.
set -euo pipefail
cd "$(dirname "$0")/.."
${PYTHON:-.venv/bin/python} -m sphinx --quiet --fail-on-warning --keep-going --fresh-env --builder html docs docs/_build/html
echo "docs: docs/_build/html/index.html"
