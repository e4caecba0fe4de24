# `make demo` and `make test` do all their own set-up: a virtual environment beside this file, pinned packages in it.
SHELL := /bin/bash
PYTHON ?= python3
# make splits names at spaces, so every recipe works in the current directory with relative names
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

FAULT ?=
DURABILITY ?= full
TABLE ?=
DEMO_FLAGS := $(if $(FAULT),--fault $(FAULT)) $(if $(KEEP),--keep) $(if $(APPROVALS),--approvals)

.PHONY: demo test test-sip test-durability bench histories lint format requirements clean

demo: $(STAMP)
	$(BIN)/python starter.py demo $(DEMO_FLAGS)

test: $(STAMP)
	$(BIN)/python -m pytest

# `make test-durability` runs the whole matrix; DURABILITY=tenth a fixed tenth of it, DURABILITY=2/10 the second of ten parts
test-durability: $(STAMP)
	DURABILITY=$(DURABILITY) $(BIN)/python -m pytest --dist worksteal -m 'durability and not alone' tests/durability tests
	$(BIN)/python -m pytest -n 0 -m 'durability and alone' tests

# real HAProxy, Kamailio, SIPp, knotd, Prometheus and chrony from the distribution: installed as root, asked for otherwise
test-sip: $(STAMP)
	bash tests/sip/programs.sh
	$(BIN)/python -m pytest -m sip --dist loadfile tests/sip tests/conformance

# `make bench` makes every table, `make bench TABLE=loss` one; its size by environment: bench/README.md
bench: $(STAMP)
	bash tests/sip/programs.sh
	$(BIN)/python -m bench $(TABLE)

# after a change of the workflows: docs/changing-workflows.md
histories: $(STAMP)
	$(BIN)/python -m tests.replay.record
	$(BIN)/python -m tests.replay.contract

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	touch $(STAMP)

# the pinned packages, from the ranges in pyproject.toml
requirements:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --all-extras pyproject.toml -o requirements.txt

clean:
	rm -rf $(VENV)
