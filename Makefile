# Two commands do everything: `make run` and `make test`. Neither needs root or a key.
.DEFAULT_GOAL := help
.PHONY: help run test quick bench check lock clean

# 3.11 first: it is what the tests run on. Set it yourself with `make run PYTHON=/path/to/python`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
# Half of the suite's time is waiting (for browsers, servers, clocks), so it runs twice side by side, file by file.
WORKERS ?= 2
# Where an image sets it, every process of ours would compile every changed file again.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet $(UPGRADE)

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## set up once, then open the app with a local model answering (RUN="--port 8600 --no-browser")
	@$(BIN)/lab run $(RUN)

test: $(VENV)/.test ## set up once, then pass every test (TEST="-k words", TEST=tests/test_x.py)
	@command -v "$${LAB_CHROMIUM:-chromium}" >/dev/null || \
		echo "The browser tests will be skipped: no Chromium; on Debian install it with: sudo apt-get install chromium"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TEST)

quick: $(VENV)/.test ## set up once, then pass the tests that need no browser, no PostgreSQL, no model and no long wait
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not browser and not postgres and not model and not slow" $(TEST)

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
	rm -rf $(VENV) $(VENV).lock

# The stamps make a second start do nothing. Without its Python or `lab` an environment is as good as none.
$(shell test -x $(BIN)/python && test -x $(BIN)/lab || rm -f $(VENV)/.run $(VENV)/.test 2>/dev/null)
$(VENV)/.run: requirements.lock Makefile scripts/set_up.sh
	@VENV=$(VENV) PYTHON="$(PYTHON)" sh scripts/set_up.sh run

$(VENV)/.test: requirements-dev.lock $(VENV)/.run
	@VENV=$(VENV) PYTHON="$(PYTHON)" sh scripts/set_up.sh test
