# `make help` lists the targets. Everything runs in .venv, which each target sets up as far as it needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all fuzz check docs stats format clean

# Fast and slow tests run in parallel, a worker per core; tests of one file stay together (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile

# Compiled tests are kept between runs, whatever the environment says: compiling them takes each worker five seconds.
export PYTHONDONTWRITEBYTECODE :=

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
	$(BIN)/python tools/demo.py

test: $(VENV)/.dev  ## the fast tests (about two minutes on two cores)
	$(PYTEST) -m 'not slow'

$(VENV)/.cluster: $(VENV)/.dev
	$(PIP) --editable '.[dev,cluster]'
	touch $@

test-all: $(VENV)/.cluster  ## every test, with coverage: kills, browser, real data, a Ray cluster (about half an hour on two cores)
	$(PYTEST) --cov nephros --cov-report term:skip-covered

fuzz: $(VENV)/.dev  ## a minute of mutated files per reader (SECONDS=60); inputs that reach new code join the corpus
	$(BIN)/python -m tests.fuzz --keep --seconds $(or $(SECONDS),60)

check: $(VENV)/.dev  ## format, lint, strict types, import contracts, and the page's own checks (about a minute)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@tools/check_frontend

$(VENV)/.docs: $(VENV)/.core
	$(PIP) --editable '.[docs]'
	touch $@

docs: $(VENV)/.docs  ## the site of documents, docs/_build/index.html; warnings are errors (under a minute)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env docs docs/_build

stats: $(VENV)/.core  ## how many files the package has, how long they are, which share a name
	$(BIN)/python tools/file_stats.py

format: $(VENV)/.dev  ## format the code and fix what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) docs/_build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
