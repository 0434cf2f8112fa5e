# make dev        run everything on this machine: database, demo (if no bucket is configured), the Dagster UI
# make test       run all fast tests, in about seven minutes on two cores
# make test-slow  run the tests that wait for real servers, and each property with all its examples
# make chaos      inject faults of every kind, and check the result
# Each target works first on a fresh machine with Python 3.11+ and make; a second call is fast.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.PHONY: install install-all dev test test-byte-code test-slow test-bench test-browser test-celery test-deploy test-peers test-spark screenshots docs docs-pages docs-serve chaos \
	recovery hostile soak lint format bench bench-ingest bench-parse fuzz clean

# Paths are relative, so that the project works in a folder with a blank in its name.
BIN := .venv/bin
RUN := $(BIN)/python -m

# The first installed Python from 3.11 to 3.13. Set PYTHON to choose another one.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	  "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo "$$p" && break; \
	done)

# pip does not write byte code, because that takes a third longer and most of it is never used. `compile` writes the byte
# code of the modules that runs and commands import.
install: .venv/installed

.venv/installed: setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; none was found (set PYTHON=/path/to/python)" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@tools/install.sh 'dev$(WITH)'
	@$(RUN) tamarin_dagster.cli compile
	@touch $@

dev: install
	@exec $(RUN) tamarin_dagster.cli dev

# Three processes for two cores, since many tests wait for a server. A process without tests takes some from another, so
# that no long file delays the end.
WORKERS ?= $(shell $(BIN)/python -c "import os; cores = os.cpu_count() or 1; print(min(6, cores + cores // 2))")

# Write byte code: without it, pytest needs half a minute more, and each program that a test starts is compiled again.
PYTEST_PARALLEL = PYTHONDONTWRITEBYTECODE= $(RUN) pytest --numprocesses $(WORKERS) --dist worksteal

# Write the byte code of the tests and their imports. Otherwise each process of `make test` writes all of it at its start.
test-byte-code: install
	@PYTHONDONTWRITEBYTECODE= $(RUN) pytest --collect-only --quiet >/dev/null

# Select tests with PYTEST=-k...
test: install
	@$(PYTEST_PARALLEL) --ignore tamarin_dagster_tests/browser $(PYTEST)

# Restarts and recoveries of real servers, upgrades from every revision, all pages of the documentation, the reduced matrix
# of faults, and every property with all its examples. Select tests with SLOW=-k...
test-slow: install
	@$(PYTEST_PARALLEL) --ignore tamarin_dagster_tests/browser -m 'slow or hypothesis' --hypothesis-profile full $(SLOW)

# Run each benchmark with its smallest size, to test that it runs.
test-bench: install
	@$(RUN) pytest -m bench

# Click through the Dagster UI in headless Chromium (chromium or google-chrome on the PATH, or CHROMIUM=...).
test-browser: .venv/browser-installed
	@$(RUN) pytest -m browser tamarin_dagster_tests/browser

# Take the screenshots for the README and docs/.
screenshots: .venv/browser-installed
	@SCREENSHOTS=docs/images $(RUN) pytest -m browser tamarin_dagster_tests/browser

# Run Dagster on Celery workers that are killed; this takes five minutes. It is skipped without redis-server.
# Select tests with CELERY=-k...
test-celery: install
	@$(RUN) pytest -m celery tamarin_dagster_tests/deploy $(CELERY)

# Compare a month with other log analysers. A test is skipped if its analyser is not installed:
# apt-get install analog awstats goaccess
test-peers: install
	@$(RUN) pytest -m peers tamarin_dagster_tests/peers

# Load days into a lake with Spark, and kill its executors and drivers. Skipped if pyspark or Java is not installed:
# apt-get install openjdk-17-jre-headless
test-spark: .venv/spark-tests-installed
	@$(RUN) pytest -m spark tamarin_dagster_tests/lake $(SPARK)

# Check the image, the compose files and the chart values with their own tools. No container engine is needed.
test-deploy: .venv/deploy-installed
	@$(RUN) pytest tamarin_dagster_tests/deploy

# The number of kills at random moments, in addition to the matrix.
KILLS ?= 200

# Write the table into docs/explanation/reliability.md. With the kills this takes half an hour; the row of the full disk
# needs root.
chaos: install
	@$(RUN) tamarin_dagster_tests.chaos --kills $(KILLS) --markdown docs/explanation/reliability.md

# Load objects of random bytes and mutated lines, and check that each line is accounted for.
hostile: install
	@$(RUN) tamarin_dagster_tests.chaos.hostile

# Run Dagster on a log bucket that gets 50 keys a second, and kill a random process with -9 each minute.
MINUTES ?= 30

soak: install
	@$(RUN) tamarin_dagster_tests.chaos.soak --minutes $(MINUTES)

# The files that `make lint` reads for spelling and for words to avoid (tools/words_to_avoid.txt).
PROSE := README.md CHANGELOG.md docs tamarin_dagster tamarin_dagster_tests tools benchmarks deploy tamarin.yaml setup.cfg Makefile .ci

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(RUN) mypy
	@$(BIN)/lint-imports
	@$(RUN) codespell_lib $(PROSE)

format: install
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Install an extra that only some targets need: `bench`, `browser`, `deploy`, `docs`, `fuzz` or `spark-tests`.
.venv/%-installed: .venv/installed
	@tools/install.sh 'dev,$*'
	@touch $@

TESTED_EXTRAS := browser,deploy,docs,fuzz
COMMA := ,
TESTED_STAMPS := $(patsubst %,.venv/%-installed,$(subst $(COMMA), ,$(TESTED_EXTRAS)))

# Install everything that the tests need, in one step if nothing is installed yet.
install-all:
	@test -e .venv/installed || \
	  { $(MAKE) --no-print-directory .venv/installed WITH=,$(TESTED_EXTRAS) && touch $(TESTED_STAMPS); }
	@$(MAKE) --no-print-directory $(TESTED_STAMPS)

bench: .venv/bench-installed
	@$(RUN) benchmarks.ingest
	@$(RUN) benchmarks.parse
	@$(RUN) benchmarks.parse.adversarial

bench-ingest: .venv/bench-installed
	@$(RUN) benchmarks.ingest

bench-parse: .venv/bench-installed
	@$(RUN) benchmarks.parse
	@$(RUN) benchmarks.parse.adversarial

# Kills the code server while RUNS runs are queued, then a run, Postgres and the daemon; a quarter of an hour.
RUNS ?= 80

recovery: install
	@$(RUN) benchmarks.recovery --runs $(RUNS)

# The duration of `fuzz`.
SECONDS ?= 60

fuzz: .venv/fuzz-installed
	@$(RUN) tamarin_dagster_tests.fuzz.fuzz_parser --seconds $(SECONDS)

# Generate the reference pages from the code.
docs-pages: install
	@$(RUN) tools.describe_tables > docs/reference/tables.md
	@$(RUN) tools.describe_commands > docs/reference/cli.md
	@$(RUN) tools.describe_settings > docs/reference/settings.md

# Generate the reference pages and a site of all pages in site/. A broken link is an error.
docs: docs-pages .venv/docs-installed
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --quiet --clean
	@echo "site/index.html"

docs-serve: .venv/docs-installed
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs serve --strict

# This never deletes a home, which may hold the only copy of records.
clean:
	rm -rf .venv site .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
