# Foreshard. `make demo` shows the whole loop; `make test` checks everything. Both set up what they need.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
APT_TOOLS := promtool docker-compose
.DEFAULT_GOAL := help
.PHONY: help setup system demo up down status test lint typecheck unit integration dag-test e2e bench lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv with everything, and the foreshard command in it

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Foreshard needs Python 3.11 or newer; set PYTHON=…") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==0.13.9
	@echo "installing the locked packages into $(VENV) …"
	@$(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e .
	@$(BIN)/foreshard stack fetch
	@touch $@

lock: ## resolve requirements*.txt into requirements.lock
	@$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-header requirements-dev.txt -o requirements.lock
