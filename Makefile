# Every target is safe to repeat: it does only what has not been done since its inputs changed.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= python3
HOST ?= $(or $(VQTOK_HOST),127.0.0.1)
PORT ?= $(or $(VQTOK_PORT),8000)
BUNDLE ?= $(or $(VQTOK_BUNDLE),bundles/cifar10-gmvq)
CONFIG ?= training/configs/cifar10-gmvq.toml
RUN ?= runs/gmvq
RUNTIME := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)

SERVE := .venv/serve
DEV := .venv/dev
SERVE_READY := $(SERVE)/.ready-$(RUNTIME)
DEV_READY := $(DEV)/.ready-$(RUNTIME)
HASHED := --no-deps --require-hashes
# Tests of one file share what its fixtures start, so they stay together.
PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=loadfile

export ORT_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help dev serve test test-slow soak check format lock golden wheel train clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PORT=8123, HOST=0.0.0.0 and BUNDLE=path choose what 'make serve' serves and where."

serve: $(SERVE_READY) ## Install what the service needs, and start it on the bundle in bundles/
	@VQTOK_HOST=$(HOST) VQTOK_PORT=$(PORT) VQTOK_BUNDLE=$(BUNDLE) exec $(SERVE)/bin/python -m service

dev: $(DEV_READY) ## Install everything for training and tests into .venv/dev

test: $(DEV_READY) check .venv/.tools ## Install everything, check the code, run all tests but the slow ones
	@$(DEV)/bin/python -m pytest -m "not slow" --durations=10 $(PARALLEL)

test-slow: $(DEV_READY) .venv/.tools .venv/.slow-tools ## Run the slow tests, and all the cases of which `make test` runs a few
	@$(DEV)/bin/python -m pytest -m slow --durations=10

soak: $(DEV_READY) ## Load the service for half an hour, and see whether it grows, leaks or errs
	@$(DEV)/bin/python -m benchmarks.soak

check: $(DEV_READY) ## Check format, lint, types and the one-way rule between the packages
	@$(DEV)/bin/ruff format --check --quiet .
	@$(DEV)/bin/ruff check --quiet .
	@$(DEV)/bin/pyright --pythonpath $(DEV)/bin/python
	@$(DEV)/bin/lint-imports --no-logo
	@$(DEV)/bin/hadolint Dockerfile

format: $(DEV_READY) ## Format the code and mend what the linter can
	@$(DEV)/bin/ruff check --fix --quiet .
	@$(DEV)/bin/ruff format .

lock: $(DEV_READY) ## Compile and hash requirements/ from pyproject.toml
	@requirements/compile.sh $(DEV)/bin/uv $(if $(UPGRADE),--upgrade)

golden: $(DEV_READY) ## Write what the README's examples print into the README
	@$(DEV)/bin/python -m tests.readme_examples

wheel: $(DEV_READY) ## Build the wheel of vqtok into dist/
	@$(DEV)/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist

train: $(DEV_READY) ## Train CONFIG into the folder RUN, or go on with it
	@$(DEV)/bin/python -m training train $(CONFIG) --output $(RUN)

clean: ## Remove the environments and everything built or cached
	rm -rf .venv dist build .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each environment is made anew when its requirements change, so that nothing stale stays in it.
define new_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "vqtok needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $@" >&2; exit 1; }
	@echo "Creating $(1) ($(RUNTIME))"
	@$(PYTHON) -m venv --clear $(1)
endef

$(SERVE_READY): requirements/serve-$(RUNTIME).txt
	$(call new_venv,$(SERVE))
	@$(SERVE)/bin/pip install --quiet $(HASHED) -r $<
	@touch $@

# torch comes first and without hashes: its CPU and CUDA builds are different files of one version.
# What is imported is compiled then: to compile all of it takes a third of the installing.
$(DEV_READY): requirements/torch.txt requirements/serve-$(RUNTIME).txt requirements/dev.txt
	$(call new_venv,$(DEV))
	@$(DEV)/bin/pip install --quiet --no-compile -r requirements/torch.txt
	@$(DEV)/bin/pip install --quiet --no-compile $(HASHED) -r requirements/serve-$(RUNTIME).txt -r requirements/dev.txt
	@$(DEV)/bin/pip install --quiet --no-compile --no-deps --no-build-isolation --editable .
	@touch $@

# Programs that some tests run for real. Without them these tests are skipped.
.venv/.tools:
	@tests/install-tools.sh prometheus chromium
	@mkdir -p $(@D) && touch $@

.venv/.slow-tools:
	@tests/install-tools.sh buildah debootstrap
	@mkdir -p $(@D) && touch $@
