# What a newcomer types. Everything else is behind `.venv/bin/sampan --help`.
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-down test check bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

setup:  ## install Debian packages, .venv with sampan, and the real kubectl and helm
	@sh scripts/setup.sh

demo: setup  ## three nodes on this machine, and the example application on them
	@$(PY) examples/01-hello/demo.py up

demo-down:  ## remove every trace of the demo
	@test -x $(PY) && $(PY) examples/01-hello/demo.py down || echo "nothing was set up here"

check: setup  ## lint, types, layers
	$(PY) -m ruff format --check src tests benchmarks examples scripts
	$(PY) -m ruff check src tests benchmarks examples scripts
	$(PY) -m mypy
	.venv/bin/lint-imports

test: setup  ## every test: unit, contract, property, end-to-end
	$(PY) -m pytest -q -n 2 --ignore=tests/e2e
	$(PY) -m pytest -q tests/e2e

bench: setup  ## measure; prints medians and CPU-seconds
	$(PY) benchmarks/run.py

clean: demo-down  ## remove .venv and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
