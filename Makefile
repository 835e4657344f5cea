# Two commands do everything on a fresh machine with Python 3.11+:
#   make demo     installs into .venv, trains the demo study, prints the table, writes report.html
#   make test     installs into .venv if needed, runs every check and test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The exact versions that the tests ran with; `make CONSTRAINTS=` installs the newest allowed ones.
CONSTRAINTS ?= constraints.txt
# Files of tests go to as many processes as there are cores; `make test PYTEST_ARGS=` has one after another.
PYTEST_ARGS ?= -n logical --maxprocesses 4 --dist loadfile

.PHONY: browser demo test check unit docs bench soak install format clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) torch
	$(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[dev]'
	$(BIN)/python -m pip check
	touch $@

# A browser for the tests of the page. Without one they are skipped, and say so.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || \
	  echo "NO BROWSER: install chromium, or the tests in tests/browser are skipped"

demo: install
	$(BIN)/lossary demo --out demo

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.reference --check

test: check browser
	$(BIN)/python -m pytest $(PYTEST_ARGS)

docs: install
	$(BIN)/python -m tools.reference

bench: install
	for name in startup prepare equality conditions batches parity steps200 train evaluate in_training results events page memory scoring_memory checksums flips kills; do $(BIN)/python -m benchmarks.$$name --quick || exit 1; done

# Faults of machines in turns, for 20 minutes: a table of what was lost.
soak: install
	$(BIN)/python -m benchmarks.soak

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
