# `make help` lists what can be made. Every target sets up .venv first; that takes no time once it is there.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What there is to install: attnbench for who runs it, and the tools of who changes it. Compiling all that comes with them
# would take longer than fetching it; Python compiles what is imported.
INSTALLED := $(VENV)/installed
DEVELOPING := $(VENV)/developing
PUBLISHED := -v naive,sdpa,sdpa-math,sdpa-flash,chunked,xformers --budget 0.3 --heads 8 --head-dim 64 --batch 1,4 \
	--seq 128,256,512,1024,2048 --mask none,causal --direction forward,forward_backward
MACHINE ?=  # the folder under results/published; empty: named for the device
RUN ?=      # further options of `attnbench run`, e.g. make bench RUN="--suite gpt --budget 600"
REPORT ?=   # further options of `attnbench report`
TESTS ?=    # further options of pytest, e.g. make test TESTS="tests/workloads/test_mask.py -x"
RELEASE := $(VENV)/release

.PHONY: bench test lint format perf report publish-run docs site release clean help

bench: $(INSTALLED)  ## time the variants (every GPU, or else the CPU) and write the report
	@status=0; $(BIN)/attnbench run $(RUN) || status=$$?; \
	if [ $$status -le 1 ]; then $(BIN)/attnbench report $(REPORT); fi; exit $$status

test: $(DEVELOPING)  ## run the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --benchmark-disable $(TESTS)

lint: $(DEVELOPING)  ## check style, types and the import order
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHONPATH=harness:variants $(BIN)/lint-imports --no-logo

format: $(DEVELOPING)  ## lay out the code and mend what ruff can mend by itself
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

perf: $(DEVELOPING)  ## measure the ratios that the project promises; slow, and not part of `make test`
	$(BIN)/python -m pytest tests/performance --benchmark-only -o norecursedirs=".*" $(TESTS)

report: $(INSTALLED)  ## write the report of the latest run again
	$(BIN)/attnbench report $(REPORT)

publish-run: $(INSTALLED)  ## measure this machine for results/published, write the report there, renew README's finding
	@status=0; case "$$($(BIN)/attnbench list devices --json)" in (*'"cuda:'*) chosen=;; (*) chosen="$(PUBLISHED)";; esac; \
	machine="$(strip $(MACHINE))"; folder="results/published/$${machine:-$$($(BIN)/python docs/headline.py --machine)}"; \
	name=$$(date -u +%Y-%m-%d-%H%M); $(BIN)/attnbench run $$chosen $(RUN) --results "$$folder" --name $$name || status=$$?; \
	[ $$status -le 1 ] || exit $$status; \
	$(BIN)/attnbench report "$$folder/$$name" && $(BIN)/python docs/headline.py "$$folder/$$name"

docs: $(DEVELOPING)  ## measure the kill table again, and build the documentation into site/docs; a warning is an error
	$(BIN)/python tests/mutants/kill_table.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs site/docs
	@echo "site/docs/index.html"

site: $(INSTALLED)  ## write a static site of the published runs into site/runs
	$(BIN)/attnbench publish site/runs

release: $(DEVELOPING)  ## build the archives, check them, and try the wheel in a clean environment
	rm -rf dist $(RELEASE)
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet -c constraints.txt dist/*.whl
	cd $(RELEASE) && bin/attnbench check sdpa naive --quick

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("attnbench needs Python 3.11 or later, %s is %s: say which with make PYTHON=..." % (sys.executable, sys.version.split()[0]))'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[report]'
	@touch $@

$(DEVELOPING): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt --group dev
	@touch $@

clean:  ## remove what was made, but for results
	rm -rf $(VENV) site dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
