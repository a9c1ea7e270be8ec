# `make help` lists the targets. Every target creates .venv first if it is missing.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# These files mark that the packages for users, and those for developers, are installed. pip is called with --no-compile,
# because byte-compiling every package takes longer than downloading it, and Python compiles modules when it imports them.
INSTALLED := $(VENV)/installed
DEVELOPING := $(VENV)/developing
EXTRAS := report,xformers,pytest
CHOICE := harness/attnbench/machine/torch_choice.py  # chooses the build of torch that fits the driver
PUBLISHED := -v naive,sdpa,sdpa-math,sdpa-flash,chunked,xformers --budget 0.3 --heads 8 --head-dim 64 --batch 1,4 \
	--seq 128,256,512,1024,2048 --mask none,causal --direction forward,forward_backward
MACHINE ?=  # name of the machine's folder in results/published; default: the name of the device
RUN ?=      # additional options for `attnbench run`, e.g. make bench RUN="--suite gpt --budget 600"
REPORT ?=   # additional options for `attnbench report`
DRIVER ?=   # driver of the GPU for which torch is installed; default: that of this machine
TESTS ?=    # additional options for pytest, e.g. make test TESTS="tests/workloads/test_mask.py -x"
RELEASE := $(VENV)/release
# Many container images set this variable. Python would then compile torch again in every process, which takes longer
# than importing it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: bench test lint format perf soak report publish-run kill-table docs site release clean help

bench: $(INSTALLED)  ## check and time the variants (on every GPU, or else on the CPU) and write the report
	@status=0; $(BIN)/attnbench run $(RUN) || status=$$?; \
	if [ $$status -le 1 ]; then $(BIN)/attnbench report $(REPORT); fi; exit $$status

test: $(DEVELOPING)  ## run the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --benchmark-disable $(TESTS)

lint: $(DEVELOPING)  ## check style, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHONPATH=harness:variants $(BIN)/lint-imports --no-logo

format: $(DEVELOPING)  ## format the code and apply ruff's automatic fixes
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

perf: $(DEVELOPING)  ## measure the promised performance ratios; slow, and not part of `make test`
	$(BIN)/python -m pytest tests/performance --benchmark-only -o norecursedirs=".*" $(TESTS)

soak: $(DEVELOPING)  ## run 10,000 simulated cells here and on a Ray cluster, and real cells for an hour; check that nothing grows
	$(BIN)/python tests/soak stubbed
	$(BIN)/python tests/soak cluster
	$(BIN)/python tests/soak real

report: $(INSTALLED)  ## rewrite the report of the latest run
	$(BIN)/attnbench report $(REPORT)

publish-run: $(INSTALLED)  ## measure this machine, write run and report to results/published, and update the README
	@status=0; case "$$($(BIN)/attnbench list devices --json)" in (*'"cuda:'*) chosen=;; (*) chosen="$(PUBLISHED)";; esac; \
	machine="$(strip $(MACHINE))"; folder="results/published/$${machine:-$$($(BIN)/python docs/headline.py --machine)}"; \
	name=$$(date -u +%Y-%m-%d-%H%M); $(BIN)/attnbench run $$chosen $(RUN) --results "$$folder" --name $$name || status=$$?; \
	[ $$status -le 1 ] || exit $$status; \
	$(BIN)/attnbench report "$$folder/$$name" && $(BIN)/python docs/headline.py "$$folder/$$name"

kill-table: $(DEVELOPING)  ## run the conformance suite on every mutant, and update the table of the checks that catch it
	$(BIN)/python tests/mutants/kill_table.py

docs: $(DEVELOPING)  ## build the documentation into site/docs; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs site/docs
	@echo "site/docs/index.html"

site: $(INSTALLED)  ## write a static site of the published runs into site/runs
	$(BIN)/attnbench publish site/runs

release: $(DEVELOPING)  ## build source archive and wheel, check them, and test the wheel in a clean environment
	rm -rf dist $(RELEASE)
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet -c constraints.txt dist/*.whl
	cd $(RELEASE) && bin/attnbench check sdpa naive --quick

$(INSTALLED): pyproject.toml constraints.txt $(CHOICE)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("attnbench needs Python 3.11 or later, %s is %s: choose another with make PYTHON=..." % (sys.executable, sys.version.split()[0]))'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet 'pip>=25.1'
	@set -f; arguments=$$($(BIN)/python -I $(CHOICE) $(EXTRAS) $(DRIVER) < constraints.txt) && \
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt $$arguments
	@touch $@

$(DEVELOPING): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt --group dev
	@touch $@

clean:  ## remove everything that make creates, except results
	rm -rf $(VENV) site dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
