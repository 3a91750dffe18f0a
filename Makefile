# The habits: make demo · setup · check · test · prove · docs · bench NAME=… · record NAME=… · size
# TORCH_INDEX_URL=… takes torch from another index: a CPU build, or one for another CUDA.
# PYTHON=… chooses the interpreter (3.11 to 3.13).

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; exit; }; done; echo python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

.PHONY: demo setup check test slow prove docs bench record size clean

demo: .venv/.core
	$(BIN)/eyebright train lenet5-digits
	@echo "open the report in a browser; then look at the recipes: $(BIN)/eyebright recipes"

setup: .venv/.dev

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal
	$(BIN)/pytest -q --doctest-modules eyebright -p no:cacheprovider

slow: .venv/.dev
	$(BIN)/pytest -m slow

prove: .venv/.dev
	$(BIN)/python bench/prove.py --record records

docs: .venv/.docs
	$(BIN)/python docs/make_errors.py
	$(BIN)/python docs/make_doctor.py
	$(BIN)/python docs/make_performance.py
	$(BIN)/sphinx-build -q -W docs docs/_build

bench: .venv/.dev
	$(BIN)/python bench/$(NAME).py

record: .venv/.dev
	$(BIN)/python bench/$(NAME).py --record records

size:
	@for file in eyebright/models/*.py; do wc -l $$file; done
	@echo "$$(cat $$(git ls-files 'eyebright/*.py') | wc -l) lines in eyebright, $$(cat $$(git ls-files 'tests/*.py') | wc -l) in tests"

clean:
	rm -rf .venv docs/_build

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: there is no Python. Install Python 3.11, 3.12 or 3.13."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "error: $$($(PYTHON) --version) will not do: Python 3.11, 3.12 or 3.13 is needed. Choose one with: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "error: this Python has no venv. Install it (Debian and Ubuntu: the package python3-venv)."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.core: .venv/bin/python pyproject.toml constraints.txt
	$(if $(TORCH_INDEX_URL),$(PIP) --index-url $(TORCH_INDEX_URL) torch)
	$(PIP) -e .
	@touch $@

.venv/.dev: .venv/.core
	$(PIP) -e '.[dev]'
	@touch $@

.venv/.docs: .venv/.dev
	$(PIP) -e '.[docs]'
	@touch $@
