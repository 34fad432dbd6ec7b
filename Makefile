# Two commands matter: `make quickstart` and `make test`. Both make their own environment in .venv.
# Settings: PYTHON=python3.12 picks the interpreter, VENV=/elsewhere the environment's folder,
# RUN_DIR=runs/x where the quick start writes, TEST_PROCESSES=8 how many tests run side by side.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
RUN_DIR ?= runs/quickstart
SCENES_DIR := runs/data/scenes
# Tests are meant to take 15 on two cores; a slower machine is no failure.
TEST_MINUTES ?= 30
TEST_PROCESSES ?= 2
MIN_COVERAGE ?= 85

SOURCES := $(wildcard pyproject.toml setup.py CMakeLists.txt build_tools/*.py) \
           $(shell find csrc -type f 2>/dev/null)
# Written anew by whatever installs another Paddle, which the operators are then built for.
PADDLE_VERSION := $(wildcard $(VENV)/lib/python3*/site-packages/paddle/version/__init__.py)
CPP_FILES = $(shell find csrc -name '*.h' -o -name '*.cc' -o -name '*.cu' 2>/dev/null)
PYTHON_FOLDERS := $(wildcard unimo_paddle tools tests build_tools setup.py)

# One line for each thing that only the user can add.
SUITS := import sys, venv, ensurepip; assert (3, 10) <= sys.version_info[:2] <= (3, 12)
NO_PYTHON := no Python 3.10 to 3.12 with its venv module here; \
             install it (Debian, Ubuntu: apt-get install python3-venv) or pass PYTHON=/path/to/python
NO_COMPILER := no C++ compiler here; install one (Debian, Ubuntu: apt-get install g++ cmake)

# Paddle first: the build then uses it, and does not fetch a second one for itself alone.
WHICH_PADDLE := import sys; sys.path.insert(0, "build_tools"); import environment as e; \
                print(e.paddle_requirement(e.installed_versions(e.target_paths())))

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install quickstart test test-all lint format clean clean-runs

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv, build the operators, install the package with its test tools

# Reinstalled only when the packaging, the C++ sources or Paddle changed: Python files are used in
# place.
$(STAMP): $(SOURCES) $(PADDLE_VERSION)
	@command -v c++ >/dev/null || { echo 'make: $(NO_COMPILER)' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		python="$(PYTHON)"; \
		for candidate in python3.12 python3.11 python3.10 python3; do \
			test -z "$$python" || break; \
			$$candidate -c '$(SUITS)' >/dev/null 2>&1 && python=$$candidate; \
		done; \
		test -n "$$python" || { echo 'make: $(NO_PYTHON)' >&2; exit 1; }; \
		echo "make: environment in $(VENV) with $$($$python --version)"; \
		$$python -m venv --clear $(VENV); }
	@requirement=$$($(BIN)/python -c '$(WHICH_PADDLE)'); \
	echo "make: installing $$requirement (some 200 MB where it is missing)"; \
	$(BIN)/python -m pip install --quiet --progress-bar off "$$requirement"
	@echo "make: building the operators and installing the package with its tools"
	@$(BIN)/python -m pip install --quiet --progress-bar off --editable '.[dev]'
	@touch $@

# A quick start that was stopped goes on where it was; `make clean-runs` begins anew.
quickstart: install  ## train, evaluate, export and show a small model on the built-in data
	@resume=$$(test ! -e $(RUN_DIR)/checkpoints/latest || echo --resume); \
	$(BIN)/python tools/train.py --config configs/quickstart.yaml --output_dir $(RUN_DIR) $$resume
	@for split in test test_novel; do \
		$(BIN)/python tools/evaluate.py --run $(RUN_DIR) --split $$split; done
	@$(BIN)/python tools/export.py --run $(RUN_DIR)
	@echo
	@echo 'What to look at:'
	@echo '  $(RUN_DIR)/evaluation-test.json, $(RUN_DIR)/evaluation-test_novel.json   the tables above'
	@echo '  $(SCENES_DIR)/images   what it learnt from, with $(SCENES_DIR)/train.jsonl'
	@echo '  curves and pictures: run the next line, then open http://127.0.0.1:8040'
	@echo '    $(BIN)/visualdl --logdir $(RUN_DIR)/log --host 127.0.0.1 --port 8040 --language en --disable-telemetry'
	@echo '  find an image for your own words:'
	@echo '    $(BIN)/python tools/predict.py --bundle $(RUN_DIR)/bundle --images $(SCENES_DIR)/images/040*.png --texts "a red star"'

test: install lint  ## all checks and quick tests, with line coverage
	@OMP_NUM_THREADS=1 timeout --foreground $(TEST_MINUTES)m $(BIN)/python -m pytest \
		-m "not slow" -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder \
		--cov --cov-report=term --cov-fail-under=$(MIN_COVERAGE)

test-all: install lint  ## the same and the slow proofs
	@$(BIN)/python -m pytest --cov --cov-report=term

lint: install  ## layout, lint, one-way imports, C++ layout
	@$(BIN)/ruff check --quiet $(PYTHON_FOLDERS)
	@$(BIN)/ruff format --quiet --check $(PYTHON_FOLDERS)
	@report=$$($(BIN)/lint-imports --no-cache 2>&1) || { echo "$$report"; exit 1; }
	@$(BIN)/clang-format --dry-run --Werror $(CPP_FILES)
	@echo "lint: clean"

format: install  ## lay out every file the house's way
	@$(BIN)/ruff check --quiet --fix $(PYTHON_FOLDERS) || true
	@$(BIN)/ruff format $(PYTHON_FOLDERS)
	@$(BIN)/clang-format -i $(CPP_FILES)

clean-runs:  ## remove the quick start's run, its data and its results
	rm -rf $(RUN_DIR) $(SCENES_DIR)

clean:  ## remove the environment, builds and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .coverage .coverage.*
	find build_tools unimo_paddle tests tools \( -name __pycache__ -o -name '*.so' \
		-o -name '*.paddle_version' \) -prune -exec rm -rf {} +
