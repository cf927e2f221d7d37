# One command each. `make help` lists them; `make demo` and `make test` prepare everything they need themselves.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

install: $(STAMP) ## Create .venv with the pinned, hash-checked dependencies and this package

$(STAMP): requirements/dev.txt examples/requirements.txt pyproject.toml scripts/make-venv
	@PYTHON="$(PYTHON)" scripts/make-venv $(VENV)
	@echo "Installing pinned dependencies into $(VENV) (about a minute, once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r examples/requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

lock: ## Pin the dependencies anew, with hashes (needs uv)
	uv pip compile pyproject.toml --extra demo --group dev --generate-hashes --no-emit-index-url --no-header --python-version 3.11 -o requirements/dev.txt
