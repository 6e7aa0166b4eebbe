# What is made here lies outside of the checkout, because cookiecutter copies the checkout; Python's bytecode is small.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hpc-hydra-template
PYTHON ?= python3
# Some tests of Slurm wait more than they work.
PROCESSES ?= $(shell expr 4 + `nproc`)
ENV := $(CACHE)/env
CLUSTER := $(PYTHON) tests/slurm/cluster.py
# Python writes its bytecode, also for a caller who wants none: else each process compiles all that it imports.
TESTS = PYTHONDONTWRITEBYTECODE= $(ENV)/bin/pytest -o cache_dir=$(CACHE)/pytest --numprocesses=$(PROCESSES) --dist=worksteal
# For the test of the report.
BROWSER = $(shell which chromium chromium-browser google-chrome 2>/dev/null)
export CACHE ENV
export RUFF_CACHE_DIR := $(CACHE)/ruff
export MYPY_CACHE_DIR := $(CACHE)/mypy
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis

help:
	@echo 'make demo     generate a repository and run its sweep (on Slurm if sinfo answers)'
	@echo 'make test     lint, types and all tests, those on a real Slurm included'
	@echo 'make quick    those of tests/library: no sweep of an app, no cluster, no generated repository; a minute'
	@echo 'make faults   all that Slurm may do to jobs, done to them, and a table of what it cost'
	@echo 'make chaos    all of it at random, several at a time, for twenty minutes'
	@echo 'make bench    measure the launcher, beside the stock one and Parsl (a quarter of an hour)'
	@echo 'make cluster  start a throwaway Slurm cluster on this machine'
	@echo 'make picture  draw the pictures of the documentation, from the sweep of the last demo'

# make demo FRAMEWORK=pytorch
FRAMEWORK ?= scikit-learn
export FRAMEWORK
demo: $(ENV)/.installed
	@scripts/demo.sh

test: $(ENV)/.installed
	@$(CLUSTER) missing >/dev/null || $(CLUSTER) install || true  # without it, its tests skip or fail
	@[ -n "$(BROWSER)" ] || [ `id -u` != 0 ] || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } || true
	@$(MAKE) --no-print-directory --jobs=2 lint $(ENV)/.compiled
	$(TESTS) -m 'not long' $(PYTEST)

# Each file in one process: then what its tests share is made once.
quick: $(ENV)/.installed
	$(TESTS) --numprocesses=`expr 2 + $$(nproc)` --dist=loadfile --no-loadscope-reorder tests/library $(PYTEST)

lint:
	$(ENV)/bin/ruff check
	$(ENV)/bin/ruff format --check
	$(ENV)/bin/mypy

# Those tests of `make test` that take part in the table, and what takes too long for it.
FAULTS := chaos kills limits_and_preemption members no_place outages pytorch signals_in_jobs wandb_faults
faults: $(ENV)/.installed
	@$(CLUSTER) missing >/dev/null || $(CLUSTER) install
	FAULTS=all KILLS=100 $(TESTS) $(FAULTS:%=tests/slurm/test_%.py) tests/test_hydra_versions.py $(PYTEST)

# For so long, or what a seed did: make chaos MINUTES=5 SEED=123456
MINUTES ?= 20
chaos: $(ENV)/.installed
	@$(CLUSTER) missing >/dev/null || $(CLUSTER) install
	MINUTES=$(MINUTES) $(and $(SEED),SEED=$(SEED)) $(TESTS) --numprocesses=0 -s tests/slurm/test_chaos.py $(PYTEST)

# Parts of it: make bench BENCH='submit help'
bench: $(ENV)/.installed
	@$(CLUSTER) missing >/dev/null || $(CLUSTER) install
	@PYTHONDONTWRITEBYTECODE= PYTHONPATH=tests:tests/slurm $(ENV)/bin/python benchmarks $(BENCH)

cluster:
	@$(CLUSTER) missing >/dev/null || $(CLUSTER) install
	@$(CLUSTER) start

picture:
	$(ENV)/bin/python scripts/picture.py $(CACHE)/demo/hpc-experiment

# uv trusts the system's certificates, as pip does: it may be behind a proxy that looks into TLS.
export UV_SYSTEM_CERTS := 1
export UV_NATIVE_TLS := 1
$(ENV)/.installed: pyproject.toml
	@echo "==> the tools' environment, in $(ENV)"
	@$(PYTHON) -m venv $(ENV)
	@$(ENV)/bin/pip install --quiet uv
	@$(ENV)/bin/uv pip install --quiet --python $(ENV)/bin/python --group dev --editable .
	@scripts/torch.sh $(ENV)/bin/python
	@touch $@

# What all of the tests' processes import is compiled once, and not by each of them as they start.
$(ENV)/.compiled: $(ENV)/.installed
	@PYTHONDONTWRITEBYTECODE= $(ENV)/bin/pytest --collect-only --quiet >/dev/null || true  # the tests will tell
	@touch $@

.PHONY: help demo test quick lint faults chaos bench cluster picture
