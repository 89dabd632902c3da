SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup run nightly test test-slow test-tfx-1.21 kubeflow-test image lint fix bench lock clean

# Bytecode is kept: without it every process compiles TensorFlow anew, which takes 20 s.
unexport PYTHONDONTWRITEBYTECODE

# One worker for each core, four at most: each loads TensorFlow for itself (about 1.5 GB).
TEST_WORKERS ?= $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))
# More for pytest, e.g. make test PYTEST_ARGS="tests/cache -x"
PYTEST_ARGS ?=
PYTEST = .venv/bin/pytest -n $(TEST_WORKERS) --dist loadfile

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## .venv with everything that developing needs
	@tools/bootstrap dev

run: ## the main job: two releases of the taxi model, then a summary and the report's path
	@tools/bootstrap run
	@.venv/bin/python -m tfx_encore.pipeline.taxi

nightly: ## a release, thirty days of traffic through the gateway, thirty nights
	@tools/bootstrap run
	@.venv/bin/python -m tfx_encore.pipeline.taxi.nights

test: ## the tests, slow ones left out
	@tools/bootstrap dev
	@tools/services
	@$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-slow: ## the slow tests: simulations, several machines, the image, TFX 1.21 in a Debian 13 root
	@tools/bootstrap dev
	@tools/services slow
	@$(PYTEST) -m slow $(PYTEST_ARGS) || { code=$$?; \
	  if [ $$code -eq 5 ]; then echo "no test is marked slow: nothing to run"; else exit $$code; fi; }

test-tfx-1.21: ## the tests on TFX 1.21, in a Debian 13 root (needs root; see tools/debian13)
	@tools/debian13 make --no-print-directory test TEST_WORKERS=$(TEST_WORKERS) PYTEST_ARGS='$(PYTEST_ARGS)'

kubeflow-test: ## the component image, and the compiled release pipeline run in it task by task
	@tools/bootstrap dev
	@tools/services slow
	@.venv/bin/pytest tests/kubeflow/image $(PYTEST_ARGS)

image: ## the component image, with podman, docker or buildah (IMAGE=name, ENGINE=program)
	@tools/image $(if $(IMAGE),--tag $(IMAGE)) $(if $(ENGINE),--engine $(ENGINE))

lint: ## ruff (rules, format) and mypy
	@tools/bootstrap dev
	@tools/view
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy -p tfx_encore

fix: ## what ruff can mend by itself
	@tools/bootstrap dev
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: ## the benchmarks, into docs/benchmarks.md (QUICK=1: small, elsewhere; ONLY=name: one)
	@tools/bootstrap dev
	@.venv/bin/python benchmarks/run_all.py $(if $(filter 1,$(QUICK)),--quick) $(if $(ONLY),--only $(ONLY))

lock: ## requirements/*.txt from requirements/*.in (UPGRADE=1: the newest versions)
	@tools/bootstrap dev
	@tools/lock

clean: ## what building and testing leave behind (.venv and .encore stay)
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache/bench src/*.egg-info
	@find . -path ./.venv -prune -o -path ./.cache -prune -o -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
