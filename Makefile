# make demo | test | lint | bench | docs | faults | fuzz: each sets up everything it needs on a fresh machine, in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

RECENT := -c 'import sys; sys.exit(sys.version_info < (3, 11))'

# More threads than cores is slower than one thread each, and two test processes share the machine.
test test-slow fuzz: export OMP_NUM_THREADS = 1

.PHONY: demo test test-slow lint format bench docs faults fuzz clean

demo: $(INSTALLED)
	$(BIN)/maeseg demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(INSTALLED)
	$(BIN)/python benchmarks/pretrain_step.py

# The documentation as a site: open site/index.html.
docs: $(INSTALLED)
	$(BIN)/mkdocs build

# Kills runs, fills disks, damages files (10 minutes), and writes what was lost into docs/reliability.md.
faults: $(INSTALLED)
	$(BIN)/python tests/faults/campaign.py --write docs/reliability.md

fuzz: $(INSTALLED)
	$(BIN)/python tests/fuzz/campaign.py

# A .venv that works is kept; a half-made one is made again.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) $(RECENT) || { \
	  echo 'maeseg needs Python 3.11 or newer, but $(PYTHON) is:' "$$($(PYTHON) --version 2>&1)." \
	       'Name another one: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(BIN)/python $(RECENT) 2>/dev/null && $(BIN)/python -m pip --version >/dev/null 2>&1 \
	  || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt
	@touch $@

clean:
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache
