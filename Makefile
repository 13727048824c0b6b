# Everything below the working folder: the environment in .venv, what runs make in .unroll, nothing in the home folder.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export PIP_NO_CACHE_DIR ?= 1
# pip asks rustc for its version; where rustup never ran, its shim would answer by making a folder in the home folder
export RUSTUP_HOME ?= $(if $(wildcard $(HOME)/.rustup),$(HOME)/.rustup,$(CURDIR)/.venv/rustup)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup run test test-e2e test-containers lint faults docs docs-serve figures bench growth recovery bench-gpu book gate gpu clean
.PHONY: stack stack-down stack-status stack-env up down logs backup restore rotate

help: ## Show what there is to make
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/installed ## Install everything, pinned, into .venv

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Unroll needs Python 3.11 or later, found $$($(PYTHON) --version); name another with make PYTHON=…"; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "Installing the packages of constraints.txt into .venv: one to five minutes"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: setup ## Run both pipelines on made data: no server, no download (about three minutes)
	$(BIN)/unroll run all

stack: setup ## PostgreSQL, Prefect, MLflow, a worker and serve as processes of this machine; returns when healthy
	$(BIN)/python -m stack up

stack-down: setup ## Stop the stack; its data stay
	$(BIN)/python -m stack down

stack-status: setup ## Every service of the stack and its health
	$(BIN)/python -m stack status

# Where backups come from: the local stack where there is one or there is no Docker, else the containers.
STACK_FORM ?= $(if $(or $(wildcard .unroll/stack/postgres),$(if $(shell command -v docker 2>/dev/null),,none)),local,containers)
# docker's plugin, or the program docker-compose
COMPOSE ?= $(if $(shell docker compose version 2>/dev/null),docker compose,docker-compose)
FILE ?= backups/unroll-$(shell date -u +%Y%m%dT%H%M%SZ).tar
PROFILES ?=

up: setup ## The stack in containers, healthy when it returns; PROFILES="gpu s3" adds those
	$(BIN)/python -m stack containers up $(PROFILES:%=--profile %)

down: ## Stop the containers; their volumes stay
	$(COMPOSE) --profile gpu --profile s3 down

logs: ## What the containers say, until Ctrl-C
	$(COMPOSE) logs --follow --tail 100

backup: setup ## Databases and artifacts of the stack in one file: FILE=…, or backups/unroll-TIME.tar
	@mkdir -p "$(dir $(FILE))"
ifeq ($(STACK_FORM),local)
	$(BIN)/python -m stack backup "$(FILE)"
else
	UNROLL_BACKUPS="$(abspath $(dir $(FILE)))" $(COMPOSE) run --rm tools python -m stack backup --inside "/backups/$(notdir $(FILE))"
endif

restore: setup ## Put back a backup: FILE=…; REPLACE=yes where the stack is not empty
	@test -f "$(FILE)" || { echo "make restore FILE=backups/…: there is no file $(FILE)"; exit 2; }
ifeq ($(STACK_FORM),local)
	$(BIN)/python -m stack restore "$(FILE)" $(if $(REPLACE),--replace)
else
	$(BIN)/python -m stack containers restore "$(FILE)" $(if $(REPLACE),--replace)
endif

rotate: setup ## A new value for every secret in .env, and what runs restarted with them
	$(BIN)/python -m stack $(if $(filter containers,$(STACK_FORM)),containers) rotate

stack-env: setup ## Lines that make this shell use the stack: eval "$$(make -s stack-env)"
	@$(BIN)/python -m stack env

# Several processes run the tests, a module stays in one: its tests share servers and models. (pytest-xdist 3.8's own
# groups do nothing with pytest 9.2.) In the order of collection, as the longest modules, tests/e2e, come early in it.
TEST := $(BIN)/python -m pytest -q --dist loadfile --no-loadscope-reorder

test: setup ## The quick tests: promises of every module, no server, no browser
	$(TEST) -n 2 -m "not slow and not browser and not faults and not containers"

test-e2e: setup ## Whole pipelines on real servers and in a real browser (Chromium)
	$(TEST) -n 3 -m "(slow or browser) and not faults and not containers and not alone"
	$(TEST) -n 0 -m "alone"

test-containers: setup ## Images and the stack in containers, on a Docker engine of its own; needs root and Debian
	$(BIN)/python -m pytest -q -s -m containers tests/containers

faults: setup ## Kills, full disks, broken servers
	$(TEST) -n 3 -m "faults and not containers"

lint: setup ## Style, types, floors, workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci .gitlab-ci.example.yml

# the theme tells at each start that its support ends in May 2027; no --quiet, which would keep warnings from being counted
docs docs-serve: export NO_MKDOCS_2_WARNING := 1

docs: setup ## The documentation site, into site/; a warning is an error
	$(BIN)/mkdocs build --strict

docs-serve: setup ## The documentation site on a loopback port, built anew at each change
	$(BIN)/mkdocs serve --strict

figures: setup ## Draw the figures of docs/chapter.md anew (about a minute)
	for section in forward bptt gradients clipping truncation tasks; do \
	  $(BIN)/unroll --quiet explain $$section --figures docs/images/chapter || exit 1; done

bench: setup ## Ratios to the chapter's own way and to the machine's limits, in one run: ten minutes on a quiet machine
	$(BIN)/python -m benchmarks.run

growth: setup ## Time and memory over the size of corpus, model and sequences: ten minutes on a quiet machine
	$(BIN)/python -m benchmarks.growth

book: setup ## The chapter's projects with its own settings, on the real corpora: three hours on one core
	$(BIN)/python -m benchmarks.book

bench-gpu: setup ## Rates on a GPU by shape and precision, in one call of nine minutes, without Prefect and MLflow
	$(BIN)/python -m benchmarks.gpu_rows --out benchmarks/results

recovery: setup ## A deployed training dies in five ways, at six random moments each, on two stacks: about an hour
	$(BIN)/python -m benchmarks.recovery

gate: setup ## Simulate the gate and draw the figures of docs/gate.md anew (about ten minutes)
	$(BIN)/python -m benchmarks.gate_simulation

gpu: setup ## Train, kill, resume, load, evaluate and sample both projects on whatever card is there, without Prefect and MLflow
	$(BIN)/python -m benchmarks.gpu

clean: ## Remove the environment and everything that runs made, the stack's databases too
	@test ! -e .unroll/stack -o ! -x $(BIN)/python || $(BIN)/python -m stack --quiet down
	rm -rf .venv .unroll site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
