# make demo   sets everything up and builds a classifier from real photos
# make test   sets everything up and runs the tests, the linter and the type checker
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint lock clean
setup: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "edgetl needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked packages into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Traffic-light crops are about 30 x 62 pixels: 96 is more than they hold.
demo: setup
	$(BIN)/edgetl build traffic-lights --target this-machine --input-size 96 --out build/demo --overwrite

test: setup lint
	$(BIN)/python -m pytest --doctest-modules

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# What was tested, with hashes: needs uv.
lock:
	uv pip compile pyproject.toml --extra build --extra dev --extra plot --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --output-file constraints.txt

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
