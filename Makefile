# make demo    create the environment, export three nights of the embedded studio, show what the warehouse answers
# make demo-scale  twenty accounts on a Spark of this machine, one executor killed on the way; needs Java 17
# make test    lint, types and all tests
# make faults  the fault catalogue: number, tests, outcome; tries more than make test
# make spark   read with a real Spark; needs Java 17
# make torture seeded schedules of faults and kills, then hostile answers, dumps and damages: MINUTES=10;
#              or SCHEDULES=1000 and HOSTILE=1000 of them; or REPLAY=<seed>, REPLAY=damages-<seed>
# make mutants break the code on purpose, one place at a time: a test must notice
# make bench   measure beside peers and against targets, three quarters of an hour; make bench-quick: the ratios, two minutes
# make year    build a year of nights, and compare every mart and query with what the studio's events say: NIGHTS, SESSIONS
# make docs    write docs/tables.md from the dictionary
# make pictures  draw docs/pictures: the report and a terminal; needs Chromium
# make paginators  count what can be listed: by who says how it pages; exported from raw bodies, from parsed ones, refused
# make audit   look for known vulnerabilities of the locked packages
# make dist    build the wheel
# make clean   remove the environments and recordings
# make lock    bring requirements.lock up to date with pyproject.toml
.PHONY: demo demo-scale test faults spark torture mutants bench bench-quick year docs pictures paginators audit lint lock
.PHONY: dist clean

ifndef PYTHON
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && echo $$python && break; done)
endif
VERSION := $(shell $(or $(PYTHON),false) -c "import platform; print(platform.python_version())")
ifeq ($(VERSION),)
$(error found no Python 3.11 or newer; install one, or name it: make PYTHON=/path/to/python)
endif
BIN := .venv/bin

# Tests that kill jobs wait for the disk for a third of their time: one worker more than cores.
WORKERS := $(shell $(PYTHON) -c "import os; print(os.cpu_count() + 1)")

demo: .venv/run
	@$(BIN)/nimble-etl --log-level warning demo --config config.yaml

demo-scale: .venv/run .venv-spark/run
	@$(BIN)/python -m benchmarks.demo_scale

test: lint
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(PYTEST)

faults: .venv/test .venv-ministack/run
	THOROUGH=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --faults -k fault

spark: .venv/test .venv-spark/run .venv-spark35/run
	THOROUGH=1 $(BIN)/python -m pytest -q tests/spark

MINUTES ?= 10
torture: .venv/test
	PYTHONPATH=tests $(BIN)/python -m torture \
		$(if $(REPLAY),--replay $(REPLAY),--minutes $(MINUTES) $(if $(SCHEDULES),--schedules $(SCHEDULES)) \
			$(if $(HOSTILE),--hostile $(HOSTILE)) $(if $(SEED),--seed $(SEED)))

mutants: .venv/test
	PYTHONPATH=tests $(BIN)/python -m mutants

year: .venv/run
	$(BIN)/python -m benchmarks.year --nights $(or $(NIGHTS),365) --sessions $(or $(SESSIONS),5000)

bench: .venv/test .venv-bench/run
	$(BIN)/python -m benchmarks
	.venv-bench/bin/python -m pytest -q benchmarks/micro

bench-quick: .venv/run .venv-bench/run
	$(BIN)/python -m benchmarks --quick

docs: .venv/test
	PYTHONPATH=tests $(BIN)/python -m support.tables_page

pictures: .venv/test
	PYTHONPATH=tests $(BIN)/python -m support.pictures

paginators: .venv/test
	@PYTHONPATH=tests $(BIN)/python -m support.paginators

audit: .venv/test
	@$(BIN)/python .ci/audit

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The locks have hashes of every file of every package, for all platforms; nothing else is installed.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check

# Environments of another Python are made anew.
.venv/python-$(VERSION):
	rm -rf .venv .venv-*
	$(PYTHON) -m venv .venv
	@touch $@

.venv/run: requirements.lock pyproject.toml .venv/python-$(VERSION)
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) --no-build-isolation --no-deps --editable .
	@touch $@

.venv/test: .venv/run requirements-dev.lock .venv-aws/bin/aws .venv-duckdb/run .venv-sail/run
	$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

# The last AWS CLI that knows Nimble Studio: tests save dumps with it.
.venv-aws/bin/aws: requirements-aws.lock | .venv/run
	$(PYTHON) -m venv .venv-aws
	.venv-aws/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-aws.lock
	@touch $@

# A second server of S3, which is pinned to another botocore: tests run it as a program.
.venv-ministack/run: tests/data/ministack.lock | .venv/run
	$(PYTHON) -m venv .venv-ministack
	.venv-ministack/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Older versions of DuckDB, as BI tools bundle them, what Superset connects with, and the duckdb command: tests read the
# catalog with each that has a wheel for this Python.
READERS := $(wildcard tests/data/duckdb/*.lock) tests/data/superset.lock tests/data/shell.lock
.venv-duckdb/run: $(READERS) | .venv/run
	@mkdir -p .venv-duckdb
	@for lock in $(READERS); do \
		$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps \
			--upgrade --target .venv-duckdb/$$(basename $$lock .lock) -r $$lock || echo "no wheel: $$lock"; \
	done
	@touch $@

# Engines that read with `etl.spark`, beside the packages of .venv: tests put one of them before these. Sail is a wheel;
# Spark comes as source, from which pip builds half a gigabyte, and needs Java.
.venv-sail/run: tests/data/sail.lock | .venv/run
	@mkdir -p .venv-sail
	@$(INSTALL) --require-hashes --only-binary pysail,grpcio --no-deps --upgrade --target .venv-sail -r $< || echo "no wheel: $<"
	@touch $@

.venv-spark/run: tests/data/spark.lock | .venv/run
	$(INSTALL) --require-hashes --no-deps --upgrade --target .venv-spark -r $<
	@touch $@

.venv-spark35/run: tests/data/spark35.lock | .venv/run
	$(INSTALL) --require-hashes --no-deps --upgrade --target .venv-spark35 -r $<
	@touch $@

.venv-bench/run: benchmarks/requirements.lock | .venv/run
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

COMPILE := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-header --no-emit-index-url --no-emit-find-links

EXTRAS := --extra s3  # all but those that have an environment of their own
# What Sail needs and .venv has.
SHARED := $(addprefix --no-emit-package ,numpy pandas pyarrow python-dateutil pyyaml six typing-extensions tzdata)

lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet uv
	$(COMPILE) $(EXTRAS) pyproject.toml --group build --output-file requirements.lock
	$(COMPILE) $(EXTRAS) pyproject.toml --group build --group dev --constraint requirements.lock \
		--output-file requirements-dev.lock
	$(COMPILE) pyproject.toml benchmarks/requirements.in --constraint requirements.lock \
		--output-file benchmarks/requirements.lock
	echo "ministack" | $(COMPILE) --output-file tests/data/ministack.lock -
	echo "pyspark>=4" | $(COMPILE) --output-file tests/data/spark.lock -
	echo "pyspark<4" | $(COMPILE) --output-file tests/data/spark35.lock -
	printf "%s\n" pysail "pyspark-client<4.2" | $(COMPILE) $(SHARED) --constraint requirements.lock \
		--output-file tests/data/sail.lock -  # Sail 0.7 speaks with 4.1
	echo "awscli==1.35.13" | $(COMPILE) --output-file requirements-aws.lock -
	for version in 1.1.3 1.2.2 1.3.2 1.4.4; do \
		echo "duckdb==$$version" | $(COMPILE) --output-file tests/data/duckdb/$$version.lock -; \
	done
	printf "duckdb%s==1.5.5\n" "" -extension-avro -extension-httpfs -extension-iceberg \
		| $(COMPILE) --output-file tests/data/duckdb/1.5.5.lock -
	echo "duckdb-cli==1.5.6" | $(COMPILE) --output-file tests/data/shell.lock -
	printf "%s\n" "duckdb==1.4.4" "duckdb-engine>=0.12.1,<0.13" "sqlalchemy>=1.4,<2" \
		| $(COMPILE) --output-file tests/data/superset.lock -  # as Superset pins them

dist: .venv/run
	$(BIN)/python -c "from hatchling.build import build_wheel; print('dist/' + build_wheel('dist'))"

clean:
	rm -rf .venv .venv-aws .venv-duckdb .venv-ministack .venv-sail .venv-spark .venv-spark35 .venv-bench .venv-lock .bench
