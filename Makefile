# Two commands do everything: `make run` and `make test`. Neither needs root or a key.
.DEFAULT_GOAL := help
.PHONY: help run test bench lint lock clean

# 3.11 first: it is what the tests run on. Set it yourself with `make run PYTHON=/path/to/python`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
# Half of the suite's time is waiting (for browsers, servers, clocks), so it runs twice side by side, file by file.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
# The locks are complete, so nothing is resolved; wheels only, so nothing is built.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install -qq --no-deps --only-binary :all: --require-hashes
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet $(UPGRADE)

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## set up once, then open the app with a local model answering (RUN="--port 8600 --no-browser")
	@$(BIN)/lab run $(RUN)

test: $(VENV)/.test ## set up once, then pass every test (TEST="-k words", TEST=tests/test_x.py)
	@command -v "$${LAB_CHROMIUM:-chromium}" >/dev/null || \
		echo "The browser tests will be skipped: no Chromium; on Debian install it with: sudo apt-get install chromium"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(TEST)

bench: $(VENV)/.test ## measure side by side in one run (BENCH="words")
	@$(BIN)/python -m tests.benchmarks $(BENCH)

lint: $(VENV)/.test ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: ## write both locks anew (needs uv; UPGRADE=--upgrade takes newer versions)
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) --group dev -c requirements.lock -o requirements-dev.lock

clean: ## remove the environment; data/, deployments.toml, .streamlit/secrets.toml and pip's cache stay
	rm -rf $(VENV)

# The stamps make a second start do nothing. The code is put on the path by a .pth file and started by a script of two
# lines: installing the project itself would need a build, and with it setuptools from the network.
$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or later with venv was found; on Debian: sudo apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock | $(VENV)/bin/python
	@echo "Setting up (only this once, it takes a minute or two) …"
	@$(INSTALL) -r requirements.lock
	@$(BIN)/python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "inference_lab.pth").write_text(f"{pathlib.Path.cwd()}\n")'
	@printf '#!/bin/sh\nexec "%s" -P -m app.cli "$$@"\n' "$(CURDIR)/$(BIN)/python" > $(BIN)/lab
	@chmod +x $(BIN)/lab
	@$(BIN)/python -m compileall -q app pages services db
	@touch $@

$(VENV)/.test: requirements-dev.lock $(VENV)/.run
	@$(INSTALL) -r requirements-dev.lock
	@touch $@
