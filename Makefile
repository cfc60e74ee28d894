# `make` or `make help` says what there is. Everything runs in .venv, which each target sets up as far as it needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check format clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[dev]'
	touch $(VENV)/.core $@

setup: $(VENV)/.dev  ## set up .venv with everything that development needs

demo: $(VENV)/.core  ## train, evaluate and report on TissueMNIST where it is on disk, else on synthetic cells (under 3 minutes)
	$(BIN)/python -m nephros.demo

test: $(VENV)/.dev  ## the fast tests (five to eight minutes)
	$(BIN)/python -m pytest -q -m 'not slow'

$(VENV)/.cluster: $(VENV)/.dev
	$(PIP) --editable '.[dev,cluster]'
	touch $@

test-all: $(VENV)/.cluster  ## every test: kills, browser, real data, a Ray cluster (about 40 minutes)
	$(BIN)/python -m pytest -q

check: $(VENV)/.dev  ## format, lint, strict types, direction of imports (under a minute)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
