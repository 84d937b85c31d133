# make demo | test | lint | bench | docs | faults | fuzz: each sets up all that it needs, in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
INSTALLED := $(VENV)/.installed

RECENT := -c 'import sys; sys.exit(sys.version_info < (3, 11))'

# More threads than cores is slower than one thread each, and two test processes share the machine.
test test-slow test-lowest fuzz: export OMP_NUM_THREADS = 1

.PHONY: demo test test-slow test-lowest lint format bench bench-gpu docs faults fuzz clean

demo: $(INSTALLED)
	$(BIN)/maeseg demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m slow

# The fast tests with the lowest versions that pyproject.toml names, in an environment of their own.
test-lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python tools/lowest_versions.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet -e '.[dev]' -c $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pytest -n 2

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(INSTALLED)
	$(BIN)/python benchmarks/pretrain_step.py

# On a machine with a GPU (minutes): SPARK=PATH for a checkout of SparK's code.
bench-gpu: $(INSTALLED)
	$(BIN)/python benchmarks/gpu.py $(if $(SPARK),--spark $(SPARK))

# The documentation as a site: open site/index.html.
docs: $(INSTALLED)
	$(BIN)/mkdocs build

# Kills runs, fills disks and damages files (10 minutes), and writes the results into docs/reliability.md.
faults: $(INSTALLED)
	$(BIN)/python tests/faults/campaign.py --write docs/reliability.md

fuzz: $(INSTALLED)
	$(BIN)/python tests/fuzz/campaign.py

# A working .venv is kept; an incomplete one is created again.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) $(RECENT) || { \
	  echo 'maeseg needs Python 3.11 or newer, but $(PYTHON) is:' "$$($(PYTHON) --version 2>&1)." \
	       'Name another one: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(BIN)/python $(RECENT) 2>/dev/null && $(BIN)/python -m pip --version >/dev/null 2>&1 \
	  || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev,reference]' -c constraints.txt
	@touch $@

clean:
	rm -rf $(VENV) $(LOWEST) site .mypy_cache .pytest_cache .ruff_cache
