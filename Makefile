# make demo    create the environment, export three nights of the embedded studio, show what the warehouse answers
# make test    lint, types and all tests
# make lock    bring requirements.lock up to date with pyproject.toml
.PHONY: demo test lint lock clean

PYTHON ?= python3
BIN := .venv/bin

demo: .venv/installed
	@$(BIN)/nimble-etl --log-level warning demo

test: lint
	$(BIN)/python -m pytest -q -n auto --dist worksteal $(PYTEST)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The lock has hashes of every file of every package, for all platforms; nothing else is installed.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet uv
	.venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-header --no-emit-index-url --no-emit-find-links --all-extras --group dev \
		pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv .venv-lock state warehouse
