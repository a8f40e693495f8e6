# Two commands do everything: `make run` and `make test`. Neither needs root or a key.
.DEFAULT_GOAL := help
.PHONY: help run test bench check lock clean

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

check: $(VENV)/.test ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -c 'import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())'

lock: ## write both locks anew (needs uv; UPGRADE=--upgrade takes newer versions)
	@command -v uv >/dev/null || { echo "The locks were not changed: make lock needs uv; install it (pip install uv) and try again."; exit 1; }
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) --group dev -c requirements.lock -o requirements-dev.lock

clean: ## remove the environment; data/, deployments.toml, .streamlit/secrets.toml and pip's cache stay
	rm -rf $(VENV)

# An environment whose Python is gone (an upgrade of the system) is made anew: what was installed for it is of no use.
$(shell test -x $(BIN)/python || rm -f $(VENV)/.run $(VENV)/.test)
$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or later with venv was found; on Debian: sudo apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { echo "Nothing was set up: $(PYTHON) could not make an environment in $(CURDIR)/$(VENV); see the lines above."; exit 1; }

# The stamps make a second start do nothing. The code is put on the path by a .pth file and started by a script of a few
# lines, both of which find it from where they lie, so that the folder may be moved or renamed.
$(VENV)/.run: requirements.lock Makefile | $(VENV)/bin/python
	@echo "Setting up (only this once, it takes a minute or two) …"
	@$(INSTALL) -r requirements.lock || { echo "Setting up stopped: the packages could not be installed; check the network (and PIP_INDEX_URL, HTTPS_PROXY) and run make again, it goes on from here."; exit 1; }
	@$(BIN)/python -c 'import os, pathlib, sysconfig; site = pathlib.Path(sysconfig.get_path("purelib")); (site / "inference_lab.pth").write_text(os.path.relpath(".", site) + "\n")'
	@printf '#!/bin/sh\nexec "$$(dirname "$$(readlink -f "$$0")")/python" -P -m app.cli "$$@"\n' > $(BIN)/lab
	@chmod +x $(BIN)/lab
	@$(BIN)/python -m compileall -q app pages services db
	@touch $@

$(VENV)/.test: requirements-dev.lock $(VENV)/.run
	@$(INSTALL) -r requirements-dev.lock || { echo "Setting up stopped: the packages of the tests could not be installed; check the network and run make again, it goes on from here."; exit 1; }
	@touch $@
