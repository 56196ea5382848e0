# `make demo` and `make test` need nothing but Python >= 3.10: the environment is built on the way.
#
#   PYTHON       the interpreter that the environment is made from
#   VENV         where the environment lives
#   CONSTRAINTS  versions for machines without a GPU; `make demo CONSTRAINTS=` takes the newest torch instead
#   PYTEST_ARGS  `make test PYTEST_ARGS="-n0 tests/test_layout.py"`
#
# `make floors` tries every dependency at the lowest version that is allowed, in an environment of its own.
#
#   FLOORS_PYTHON  its interpreter
#   FLOORS_TORCH   its torch: by default the one for machines without a GPU, not the lowest

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints-cpu.txt
PYTEST_ARGS ?= -n logical --maxprocesses 4
FLOORS_PYTHON ?= $(PYTHON)
FLOORS_VENV ?= .venv-floors
FLOORS_TORCH ?= $(shell cat constraints-cpu.txt)
# What pictures look like, how adapters load from the Hub, and what the package says of its versions.
FLOORS_TESTS ?= tests/miniature/test_pictures.py tests/environment/test_requirements.py \
	tests/adapter/test_loading.py tests/adapter/test_loading_encoders.py tests/adapter/test_loading_refused.py

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help env demo test test-slow floors lint format types docs dist check

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

env: $(STAMP) ## create the environment, or bring it up to date

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(addprefix -c ,$(CONSTRAINTS)) -e '.[dev,train,plots,docs]'
	@touch $@

demo: $(STAMP) ## write one picture that shows what the adapter does
	$(BIN)/diffusers-nested demo

# One thread per worker: the tests are many and small. Any OMP_NUM_THREADS of the caller's wins.
test: $(STAMP) ## run the tests
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/pytest $(PYTEST_ARGS)

test-slow: $(STAMP) ## run the tests that take long
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/pytest $(PYTEST_ARGS) -m slow

# transformers at its floor uses what torch at its newest deprecates.
floors: ## try the lowest versions that are allowed
	$(FLOORS_PYTHON) -m venv $(FLOORS_VENV)
	$(FLOORS_VENV)/bin/pip install --quiet -c constraints-floors.txt $(FLOORS_TORCH) pytest -e '.[train,plots]'
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(FLOORS_VENV)/bin/pytest -q $(FLOORS_TESTS) \
		-W 'ignore:.torch.jit.script. is deprecated:DeprecationWarning'

lint: $(STAMP) ## check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(STAMP) ## mend style and formatting
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(STAMP) ## check types
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(STAMP) ## build the pages into site/
	$(BIN)/mkdocs build --strict

dist: $(STAMP) ## build the package into dist/ and check its description
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

check: test test-slow lint types docs ## all tests, lint, types and docs, in this order
