# One entry for people and for continuous integration. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Subprocesses (dvc, torchrun, make itself) find the environment's commands.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Nothing here is told to anyone: neither to DVC's nor to great_expectations' nor to MLflow's makers.
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help setup demo test check format lint types compile lock
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv and install the pinned set, once

$(STAMP): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "Python 3.11 is needed, found $$("$(PYTHON)" --version); install it, or name one: make setup PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --disable-pip-version-check --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(STAMP)  ## raw videos to a promoted model and an animated clip; options in ARGS
	$(BIN)/soundstage demo $(ARGS)

test: $(STAMP)  ## all tests; pytest's options in ARGS
	$(BIN)/python -m pytest $(ARGS)

check: lint types  ## lint, format, types, compiled files
	$(BIN)/soundstage pipeline compile --check

lint: $(STAMP)  ## format and lint rules, nothing changed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)  ## types of src, components and pipelines
	$(BIN)/mypy

format: $(STAMP)  ## format, and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

compile: $(STAMP)  ## write the files made from code: pipelines/training/pipeline.yaml, dvc.yaml, params.yaml
	$(BIN)/soundstage pipeline compile

lock:  ## resolve requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --extra dev --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
		--output-file requirements.lock
