# Everything a newcomer types. A bare machine needs Python 3.11 or later and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Sizes of `make bench`, and further options of it: BENCH=--benchmark-compare compares with the run before, and
# BENCH='--benchmark-compare --benchmark-compare-fail=median:20%' fails if a median has grown by more than that.
SIZES ?= 8000,16000,34167
DIM ?= 2048
BENCH ?=
# How many runs `make soak` kills, and how long `make fuzz` goes on.
RUNS ?= 50
MINUTES ?= 5
CPUS := $(shell nproc 2>/dev/null || echo 2)

.PHONY: demo test test-lowest test-slurm check bench gpu soak fuzz faults install clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	-$(BIN)/reidbench doctor  # compiles the kernels as well, once
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/reidbench run dmic --protocol regdb --data synthetic --preset demo --trials 1-2 --device cpu

test: $(STAMP)
	$(BIN)/pytest -n $(CPUS) --dist loadfile  # what a file shares is made once

# A Slurm of one node, started as root; on Debian its packages are installed, which takes half a minute.
test-slurm: $(STAMP)
	command -v slurmctld >/dev/null || (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends slurmctld slurmd slurm-client munge)
	$(BIN)/pytest -m 'slurm or sweep' -v tests/harness/sweep

# The lowest versions that pyproject.toml allows, in an environment of their own (some GiB; not part of `make test`).
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet $$($(PYTHON) tests/lowest.py)
	.venv-lowest/bin/pip install --quiet --no-deps --editable .
	.venv-lowest/bin/python -m pytest -n $(CPUS) --dist loadfile -m "not slow and not slurm and not sweep" --ignore tests/benchmarks --ignore tests/test_architecture.py

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/pytest tests/benchmarks --benchmark-enable --benchmark-only --benchmark-autosave \
		--benchmark-columns=min,median,rounds --sizes $(SIZES) --dim $(DIM) $(BENCH)

# Everything that needs a CUDA device; writes docs/measurements-gpu.md.
gpu: $(STAMP)
	$(BIN)/python -m tests.gpu

# Runs killed at random moments and resumed; readers given files of any content; every write failed once.
soak: $(STAMP)
	$(BIN)/python -m tests.robustness.soak --runs $(RUNS)

fuzz: $(STAMP)
	$(BIN)/python -m tests.robustness.fuzz --minutes $(MINUTES)

faults: $(STAMP)
	$(BIN)/python -m tests.robustness.faults

# Results and data sets stay.
clean:
	rm -rf $(VENV) .benchmarks
