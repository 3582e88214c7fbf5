# make demo   installs everything and builds a classifier from real photos
# make test   installs everything and runs the tests, the linter and the type checker
# make test-gpu-sim   tests LiteRT's GPU backend on a GPU that SwiftShader simulates on the CPU
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# SwiftShader, a Vulkan driver that computes on the CPU, comes with Chromium: with Debian's package chromium-common, or with Chrome.
GPU_SIM_DRIVER ?= $(firstword $(wildcard /usr/lib/chromium/vk_swiftshader_icd.json /opt/google/chrome/vk_swiftshader_icd.json) /usr/lib/chromium/vk_swiftshader_icd.json)

.PHONY: setup demo test test-gpu-sim lint lock clean
setup: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "edgetl needs Python 3.11 or newer; choose one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked packages into $(VENV) (takes some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Traffic-light crops are about 30 x 62 pixels: 96 is more than they hold.
demo: setup
	$(BIN)/edgetl build traffic-lights --target this-machine --input-size 96 --out build/demo --overwrite

test: setup lint
	$(BIN)/python -m pytest --doctest-modules

# `make test` skips these tests without the driver; this target installs the driver if it can, and skips nothing.
test-gpu-sim: setup $(GPU_SIM_DRIVER)
	GPU_SIM_DRIVER=$(GPU_SIM_DRIVER) $(BIN)/python -m pytest tests/runtimes/test_gpu_sim.py

$(GPU_SIM_DRIVER):
	@if [ $@ = /usr/lib/chromium/vk_swiftshader_icd.json ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium-common >/dev/null; \
	fi; \
	test -f $@ || { echo "no $@: install Debian's package chromium-common as root (apt-get install chromium-common), or give the file of an installed Chrome: make test-gpu-sim GPU_SIM_DRIVER=.../vk_swiftshader_icd.json" >&2; exit 3; }

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tests.test_words

# The tested versions, with hashes. Needs uv.
lock:
	uv pip compile pyproject.toml --extra build --extra dev --extra plot --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --output-file constraints.txt

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
