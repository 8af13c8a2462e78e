# Every target does its own set-up. `make demo` and `make test` need nothing but Debian or Ubuntu and Python 3.11.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
# How many processes run tests at a time.
TESTERS ?= 3

.PHONY: setup demo test test-slow test-chaos test-gpu test-compose sbom check fix bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup: $(READY)  ## virtual environment, pinned dependencies, redis-server, Fashion-MNIST

$(READY): pyproject.toml constraints.txt deploy/setup.sh
	@PYTHON=$(PYTHON) sh deploy/setup.sh

demo: $(READY)  ## train on minted images, judge on real ones (about 6 minutes on 2 cores)
	$(BIN)/nonesuch demo

# Several at a time (tests/conftest.py says which): half of the time is waiting for processes to start.
test: $(READY)  ## every test that needs neither a GPU nor Docker nor long time
	$(BIN)/pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder -m "not gpu and not compose and not slow and not chaos"

test-slow: $(READY)  ## the tests that take minutes
	$(BIN)/pytest -m slow

# CHAOS="--seed 7 --faults 20 --report FILE" is what it may be told.
test-chaos: $(READY)  ## 200 faults at random into a whole service (an hour or two)
	$(BIN)/pytest -m chaos tests/chaos $(CHAOS)

test-gpu: $(READY)  ## the tests that need an NVIDIA GPU
	$(BIN)/pytest -m gpu tests/gpu

test-compose: $(READY)  ## the tests that need a Docker engine
	$(BIN)/pytest -m compose tests/compose

sbom:  ## what is in the images: CycloneDX, and Debian's packages, in dist/sbom
	docker compose --profile sbom build sbom
	mkdir -p dist/sbom
	docker compose run --rm -T sbom | tar -C dist/sbom -xf -

check: $(READY)  ## ruff, mypy --strict, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/unit/test_imports.py

fix: $(READY)  ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## the benchmarks (ONLY="ring generator" for some of them), and the table of docs/performance.md
	@$(BIN)/python benchmarks/run.py $(ONLY)

clean:  ## what can be made again (not runs/)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
