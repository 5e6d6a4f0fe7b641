# songhua needs Python >= 3.11 and make; everything else comes into .venv. `make run` is the way in.
VENV := .venv
BIN := $(VENV)/bin
CONSOLE := api/static/index.html
CONSOLE_SOURCES := $(shell find api/console -type d \( -name node_modules -o -name dist \) -prune -o -type f -print)
ROOMS := devices storage ingest rules api simulators songhua bench deploy tests

# Words for `songhua up`, such as ARGS="--exit-after 60s"; for pytest, such as ARGS="-k journal".
ARGS ?=

.PHONY: help run setup test check bench faults lock clean

help:
	@echo "make run     a living city on this machine (installs and builds what is missing)"
	@echo "make setup   the environment for development"
	@echo "make test    every test; says what it skipped and why"
	@echo "make check   style, types, imports, generated documents, licences, rule packs"
	@echo "make bench   throughput and latency, as ratios measured in one run"
	@echo "make faults  the fault table: what is killed, cut or filled, and what was lost"
	@echo "make clean   remove what was installed and built; data in var/ stays"

run: $(VENV)/.run $(CONSOLE)
	@$(BIN)/songhua up --demo $(ARGS)

setup: $(VENV)/.dev $(CONSOLE)

test: setup
	@$(BIN)/pytest $(ARGS)

check: setup
	$(BIN)/ruff check $(ROOMS)
	$(BIN)/ruff format --check $(ROOMS)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m songhua.reference --check
	$(BIN)/pip-licenses --order=license > /dev/null
	$(BIN)/songhua rules lint
	$(BIN)/songhua rules test

bench: setup
	@$(BIN)/python -m bench.ingest $(ARGS)
	@$(BIN)/python -m bench.latency $(ARGS)

faults: setup
	@$(BIN)/python -m tests.faults $(ARGS)

# The environment for running: the locked packages and this checkout.
$(VENV)/.run: requirements.lock pyproject.toml deploy/setup_venv.py
	@deploy/find_python.sh deploy/setup_venv.py $(VENV) requirements.lock
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@$(BIN)/python deploy/setup_venv.py $(VENV) requirements-dev.lock
	@touch $@

# Node comes from its PyPI wheel where none is installed.
$(CONSOLE): $(VENV)/.run $(CONSOLE_SOURCES) deploy/build_console.py requirements-console.lock
	@$(BIN)/python deploy/build_console.py --has-node 2>/dev/null \
		|| $(BIN)/python deploy/setup_venv.py $(VENV) requirements-console.lock
	@$(BIN)/python deploy/build_console.py
	@touch $@

# Renew the lock files; they name no registry.
COMPILE := $(BIN)/pip-compile --quiet --no-header --generate-hashes --allow-unsafe --strip-extras --no-emit-options \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --all-build-deps
lock: $(VENV)/.dev
	$(COMPILE) --extra demo --extra influxdb -o requirements.lock pyproject.toml
	$(COMPILE) --extra demo --extra influxdb --extra sim --extra dev -c requirements.lock \
		-o requirements-dev.lock pyproject.toml
	$(COMPILE) --extra console -c requirements.lock -o requirements-console.lock pyproject.toml

clean:
	rm -rf $(VENV) api/static api/console/node_modules build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
