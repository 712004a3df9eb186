# The commands the README names. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
CORE := $(VENV)/.installed-core
DEV := $(VENV)/.installed-dev
WORKFLOWS := $(wildcard .github/workflows/*.yml)

.DEFAULT_GOAL := help
.PHONY: help install demo docs bench lint format types test unit long thorough fuzz wheel clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(DEV)  ## make .venv and install everything, in the versions that the tests ran with

$(CORE): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[plot]'
	@touch $@

$(DEV): $(CORE)
	$(PIP) -e '.[dev]'
	@touch $@

demo: $(CORE)  ## install what it needs, train a small model for a few minutes and show what it learned
	$(BIN)/hnet-lm demo

docs: $(DEV)  ## build/docs/: the documentation as a site; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html -d build/doctrees docs build/docs

bench: $(DEV)  ## measure the speed on this machine, beside what else people would use
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/run.py

lint: $(DEV)  ## style and format (ruff), workflows (their schema, and zizmor)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows $(WORKFLOWS)
	$(BIN)/zizmor --offline --no-progress --quiet .github

format: $(DEV)  ## let ruff mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV)  ## pyright
	$(BIN)/pyright

unit: $(DEV)  ## the tests alone
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

test: lint types unit  ## everything that must hold: style, types, tests

long: $(DEV)  ## the tests of half a minute or more: the wheel in an empty environment, many ranks, compilers, kills, twin runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m long

thorough: $(DEV)  ## the tests that try more when they are given an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	  --hypothesis-profile=thorough -m "hypothesis or scaled or thorough" --timeout 3600

fuzz: $(DEV)  ## thirty seconds of fuzzing of each parser
	$(PIP) -e '.[fuzz]'
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run_fuzzers.py --seconds 30 --jobs 2

wheel: $(DEV)  ## dist/: the wheel and the source distribution
	$(BIN)/python -m hatchling build

clean:  ## remove what the targets made
	rm -rf $(VENV) runs dist .pytest_cache .ruff_cache .hypothesis
