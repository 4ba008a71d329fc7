# Every command works on a machine that has only Python 3.11 and make: the virtual environment is made when it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(wildcard plugins/*)
SOURCES := pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)

.PHONY: demo test chaos check format bench clean help

help:  ## Show this list.
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

demo: $(VENV)/installed  ## Install, then play a day of webhooks through the hub and show who got what and why.
	@$(BIN)/hub demo

test: $(VENV)/installed-test  ## Install what tests need and run them all (PostgreSQL and Redis come along).
	$(BIN)/pytest -q -n 3 --dist loadgroup $(ARGS)

chaos: $(VENV)/installed-test  ## Kill, freeze and cut off everything under load, by SEED for SECONDS; or kill KILLS processes at the demo's day (EMBEDDED=1: one hub).
	$(BIN)/python -W ignore -m tests.crash.chaos --seconds $(or $(SECONDS),60) --seed $(or $(SEED),7) --kills $(or $(KILLS),0) $(if $(EMBEDDED),--embedded)

check: $(VENV)/installed-test  ## Format, lint, types, import contracts, docs.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_docs.py

format: $(VENV)/installed-test  ## Format and mend what can be mended.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed-bench  ## Measure speed and memory next to bare floors, in one run.
	$(BIN)/python -m bench $(ARGS)

clean:  ## Remove the virtual environment and caches.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tetik Hub needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/made $(SOURCES)
	@echo "installing (once; about a minute)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e . $(PLUGINS:%=-e ./%)
	@touch $@

$(VENV)/installed-bench: $(VENV)/installed-test
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,check]' $(PLUGINS:%=-e ./%)
	@touch $@
