# The two commands of the README, and what they are made of.  Everything goes into .venv, nothing outside.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export KVSTORE_CACHE_DIR ?= $(CURDIR)/.cache/kernels
UNITS := tests/mmcore tests/snapshot tests/kvstore
# These are about Python and run no kernel whose indices depend on data.
UNCHECKED := --ignore=tests/mmcore/jit --ignore=tests/kvstore/test_config.py
SERVER := $(addprefix tests/server/test_,strings.py keys.py transactions.py scan.py expiry.py protocol.py)
ATTACK := $(addprefix tests/attack/test_,kernels.py bystander.py damaged_images.py)
RULES := tests/test_imports.py tests/test_tidy.py
WORKERS ?= $(shell nproc)
PYTEST := $(BIN)/pytest --quiet --numprocesses $(WORKERS) --dist loadfile

.PHONY: run install test check wheel bench clean

run: install
	$(BIN)/kvstore serve --dir ./data $(ARGS)

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[build,bench]'
	touch $@

# With all of the above, in one installation.
$(VENV)/test-installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $(VENV)/installed $@

check: $(VENV)/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy & types=$$!; $(BIN)/pytest --quiet $(RULES); rules=$$?; wait $$types && exit $$rules

test: check
	NUMBA_DISABLE_JIT=1 $(PYTEST) tests/mmcore tests/kvstore/structures tests/test_docs.py
	NUMBA_BOUNDSCHECK=1 $(PYTEST) $(UNITS) $(SERVER) $(ATTACK) $(UNCHECKED)
	$(PYTEST) tests $(addprefix --ignore=,$(RULES))

# What people install who do not compile: a wheel that carries the machine code, tried in a bare environment.
wheel: $(VENV)/test-installed
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	KVSTORE_WHEEL_DIR=dist $(BIN)/pytest --quiet tests/wheel

bench: install
	$(BIN)/kvstore bench all $(ARGS)

clean:
	rm -rf $(VENV) .cache build dist *.egg-info
