# Every target creates .venv from the lock when it is missing. `make` or `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help .venv demo dev test lint types tour docs check bench lock clean
PYTHON ?= python3
BIN := .venv/bin

help: ## Show this list
	@grep -E '^[a-z.]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.venv: .venv/installed ## Make the environment from the lock

# files of their own, so that an installation that was cut short is not taken for a whole one
.venv/locked: requirements.lock
	@echo "making .venv from the lock, which takes some minutes"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@touch $@

.venv/installed: .venv/locked pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv ## Swissmetro, from its raw table to inferences, through Dagster
	$(BIN)/python examples/swissmetro/demo.py

dev: .venv ## The Dagster UI and daemon on one port (PORT=3000)
	$(BIN)/mimic dev --port $(or $(PORT),3000)

.venv-engines/installed: tests/engines/requirements.lock
	$(PYTHON) -m venv --clear .venv-engines
	.venv-engines/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

# several processes share the cores, so each gets one for its arithmetic; hundreds begin, so what Python compiles is kept
test: .venv .venv-engines/installed ## All tests
	OPENBLAS_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 PYTHONDONTWRITEBYTECODE= \
		$(BIN)/python -m pytest -n $(or $(WORKERS),3) --dist loadfile --no-loadscope-reorder

lint: .venv ## Style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv ## Static types
	$(BIN)/mypy

tour: .venv ## The pictures of docs/tour.md, anew, by the tests in the browser
	rm -rf build/tour
	$(BIN)/python -m pytest tests/browser
	$(BIN)/python docs/shrink_pictures.py build/tour docs/tour

docs: .venv ## The generated pages are up to date
	$(BIN)/python docs/generate.py --check

check: lint types docs test ## Everything that CI runs

bench: .venv .venv-engines/installed ## The benchmarks, each beside its baseline, and 20 rounds of killed and colliding writers
	$(BIN)/python benchmarks/run.py
	for script in read_table import_table check_decisions plan_partitions tick_sensors; do \
		$(BIN)/python benchmarks/$$script.py || exit 1; done
	$(BIN)/python -m pytest tests/resources/test_atomicity.py tests/resources/test_concurrency.py --rounds 20

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--no-emit-index-url $(if $(UPGRADE),--upgrade)

# the images have neither tests nor tools, and of everything else the versions that the tests passed with
lock: .venv ## Resolve the locks from pyproject.toml (UPGRADE=1: newest versions)
	$(COMPILE) --extra deploy --extra dev --extra examples pyproject.toml --output-file requirements.lock
	$(COMPILE) --extra deploy pyproject.toml --constraint requirements.lock --output-file deploy/images/cpu.lock
	$(COMPILE) --extra deploy --extra gpu pyproject.toml --constraint requirements.lock --output-file deploy/images/gpu.lock
	$(COMPILE) tests/engines/requirements.in --output-file tests/engines/requirements.lock

clean: ## Remove the environments and what tools left here; tables and models in .mimic stay
	rm -rf .venv .venv-engines build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
