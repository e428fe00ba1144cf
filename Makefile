# What a person types: `make run` (the whole line on the simulated log) and `make test` (every check and test).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIPELINE := $(BIN)/python -m pipeline
NEXT_START := 2026-03-30
NEXT_END := 2026-04-02

export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONDONTWRITEBYTECODE # where it is set, each of the many processes would compile the same imports for seconds
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
export GX_ANALYTICS_ENABLED := false
export ITERATIVE_DO_NOT_TRACK := 1
export UV_SYSTEM_CERTS ?= true

.PHONY: help setup run judge-anew watch-next airflow night test test-servers check faults lock clean

help: ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

setup: .venv/.ready ## everything that run and test need, in .venv

.venv/.ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else f"Python 3.11 is needed, {sys.executable} is {sys.version.split()[0]}: give PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -nE 's/^(uv==[0-9.]+).*/\1/p' requirements.lock)"
	@echo 'uv pip sync requirements.lock (a minute; pip, slower, where uv cannot reach an index that only pip.conf names)'
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -nE 's/^ *"(torch==[0-9.]+)".*/\1/p' pyproject.toml)"
	touch $@

run: setup ## the whole line on the simulated log: repro, promote, serve the next days, watch, report
	$(BIN)/dvc repro
	@$(PIPELINE) promote || case $$? in 4) ;; 7) $(MAKE) --no-print-directory judge-anew ;; *) exit 1 ;; esac
	@if ! grep -q '^log: simulated' params.yaml; then echo "Only a simulated log has days after its end to serve and watch."; $(PIPELINE) report; \
	  elif $(PIPELINE) champion --json | grep -q '"version": "v'; then $(MAKE) --no-print-directory watch-next; \
	  else echo "There is no champion, so nothing is served or watched."; $(PIPELINE) report; fi

judge-anew: setup ## the champion of today is pinned, what was packed is evaluated against it, and promoted if it passes
	$(PIPELINE) fetch --only champion
	$(BIN)/dvc repro
	$(PIPELINE) promote || [ $$? -eq 4 ]

watch-next: setup ## the champion scores the next simulated days, and what was served is watched
	$(PIPELINE) score --start $(NEXT_START) --end $(NEXT_END)
	$(PIPELINE) prepare runs/monitor --start $(NEXT_START) --end $(NEXT_END)
	$(PIPELINE) fetch --workspace runs/monitor --only champion --only served_log
	$(PIPELINE) run watch --workspace runs/monitor
	$(PIPELINE) warn --workspace runs/monitor || [ $$? -eq 5 ]
	$(PIPELINE) report --drift runs/monitor

airflow: setup ## Airflow's four processes on loopback, until Ctrl-C
	@exec $(PIPELINE) airflow

check: setup ## style, types, import contracts, and whether dvc.yaml is current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check components pipeline dags tests
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PIPELINE) wire --check

test: check ## check, then all tests but those of test-servers
	$(BIN)/pytest -n 2 --dist loadfile -m "not servers"

test-servers: setup ## the tests that start Airflow with PostgreSQL, and Kubeflow's local runner
	$(BIN)/pytest -n 2 --dist loadfile -m servers

night: setup ## simulated days under the real scheduler with faults at random: make night DAYS=14 SEED=1
	$(BIN)/python tests/night.py $(or $(DAYS),14) $(or $(SEED),1)

faults: setup ## kill -9, full disk, I/O errors at 300 places of a promotion (needs cc), S3 down at each request; kill -9 five times a stage
	CTR_FAULT_CASES=300 $(BIN)/pytest -n 2 tests/test_promotion_faults.py tests/test_registry_s3.py
	CTR_FAULT_KILLS=5 $(BIN)/pytest tests/test_line_killed.py

lock: ## resolve requirements.lock anew (needs a package index; see pyproject.toml)
	UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv pip compile pyproject.toml --group dev --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	  --no-emit-package torch --output-file requirements.lock

clean: ## remove what runs left behind (not .venv)
	rm -rf artifacts runs report .ctr .registry .dvc/cache .dvc/tmp
