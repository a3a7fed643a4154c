# Every target does all its own set-up, in .venv; nothing outside this folder changes, except that root's
# `make test` may install missing Debian packages that tests need.
# PYTHON=python3.12 make run   chooses another interpreter (3.11 or newer).

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The first that is new enough; python3 itself when none is, so that the message names it.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && exit; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq --no-input
ROOMS := keys transfer intake offline_processor
# One more than the two cores that this is made for: some tests wait.
TEST_JOBS ?= 3

.PHONY: help setup run test check faults bench demo lock clean tools

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## set up, then play the main job end to end: orders in, charged offline, statuses back
	@$(BIN)/python -m tests.end_to_end.main_job

demo: $(VENV)/.run ## the same shop, left running to click through (Ctrl-C ends it)
	@$(BIN)/python -m tests.end_to_end.main_job --keep-running

test: setup tools ## set up, then the whole test suite
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup ## format, lint, types, architecture, then make test
	@echo "check: format"; $(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@echo "check: lint"; $(BIN)/ruff check --quiet .
	@echo "check: types"; $(BIN)/mypy
	@echo "check: import rules"; $(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

faults: setup tools ## the long fault sweeps
	@if ls tests/faults/test_*.py >/dev/null 2>&1; then \
	    PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m faults tests/faults $(ARGS); \
	else \
	    echo "faults: no long sweeps yet"; \
	fi

bench: setup ## measure rates, latency and the cost curve
	@$(BIN)/python -m tests.bench $(ARGS)

setup: $(VENV)/.dev ## make .venv with everything that development needs
	@:

lock: setup ## write the hash-pinned locks after a change of pyproject.toml (NEWEST=1: newest versions of all)
	@$(call compile,dev,)
	@$(call compile,online,--constraint requirements-dev.txt)
	@$(call compile,offline,--constraint requirements-dev.txt)

clean: ## remove all that these targets made, .venv and var/ included
	rm -rf $(VENV) var build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache
	find $(ROOMS) tests -name __pycache__ -prune -exec rm -rf {} +
	find tests -name node_modules -prune -exec rm -rf {} +

tools: setup
	@$(BIN)/python -m tests.tools

# What `make run` needs: both sides, no test tools.
$(VENV)/.run: requirements-online.txt requirements-offline.txt pyproject.toml | $(VENV)/.made
	@echo "set-up: packages of both sides"
	@$(PIP) install --require-hashes --only-binary :all: -r requirements-online.txt -r requirements-offline.txt
	@$(call install-project)
	@touch $@

$(VENV)/.dev: requirements-dev.txt pyproject.toml | $(VENV)/.made
	@echo "set-up: packages for development (about 130 MB the first time)"
	@$(PIP) install --require-hashes --only-binary :all: -r requirements-dev.txt
	@$(call install-project)
	@touch $(VENV)/.run $@

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not here. Install Python 3.11 or newer, or name one: PYTHON=python3.12 make ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11. Name a newer one: PYTHON=python3.12 make ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "set-up: this Python lacks its venv module"; \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; \
	    else \
	        echo "As root: apt-get install python3-venv (or your system's package of that name), then again."; exit 1; \
	    fi; }
	@echo "set-up: $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# Editable, so that the commands in .venv/bin run what stands here. Fetches nothing: setuptools is in the locks.
# The silenced warning says that an editable project is read from its folder, which is what we want.
define install-project
PYTHONWARNINGS=ignore $(PIP) install --no-deps --no-build-isolation --no-index --editable .
endef

# The header names our command: uv's own would hold the options of whoever ran it.
define compile
echo "lock: requirements-$(1).txt"; \
$(BIN)/uv pip compile pyproject.toml $(if $(NEWEST),--upgrade) --group build --extra $(1) $(2) --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
    --output-file requirements-$(1).txt --quiet
endef
