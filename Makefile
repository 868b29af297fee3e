# Targets for people. Each prints what it does; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help setup run test check docs bench soak dist clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: ## create .venv, install the Python packages, build the extension (quick when nothing changed)
	@scripts/setup.sh

run: setup ## serve the gateway on 127.0.0.1:8080 with every backing service embedded
	@$(VENV)/bin/hevlayer dev

test: setup ## pass every test: Rust, Python, the vendor's suites, TypeScript and Go clients, a short soak, the wheel
	@scripts/test.sh

check: setup ## lint, types, import layers, clippy, formatting, generated documents, links
	@scripts/check.sh

docs: setup ## build the documentation into docs/_build/html; a warning is an error
	@scripts/docs.sh

bench: setup ## measure; writes benches/results/ (SUITE=proxy|origin|shards|snapshot|… for one)
	@scripts/bench.sh $(SUITE)

soak: setup ## ten minutes of mixed load with faults; ends with memory flat and no write lost (SOAK_SECONDS=600)
	@$(PY) tests/e2e/soak.py --seconds $${SOAK_SECONDS:-600}

dist: setup ## build the wheel into dist/ and try it in an empty environment
	@scripts/dist.sh

clean: ## remove everything that is built, fetched or left by a run
	@rm -rf $(VENV) target dist .run .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache \
	  .schemathesis docs/_build benches/.work tests/contract/vendor python/hevlayer/*.so
	@find . -name node_modules -prune -exec rm -rf {} + ; find . -name __pycache__ -prune -exec rm -rf {} +
	@echo "clean: done"
