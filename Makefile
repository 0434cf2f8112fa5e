# make dev    everything on this machine: database, demo (if no bucket is configured), Dagster's page
# make test   a test of everything, in about seven minutes on two cores
# make test-slow  the rest: what has to wait for real servers, and each property with all its examples
# make chaos  faults of every kind, and what is left afterwards
# Each target works first on a fresh machine with Python 3.11+ and make; a second call is fast.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.PHONY: install install-all dev test test-byte-code test-slow test-bench test-browser test-celery test-deploy test-peers test-spark screenshots docs docs-pages docs-serve chaos \
	hostile soak lint format bench bench-ingest bench-parse fuzz clean

# Paths are relative, so that a folder with a blank in its name is no trouble.
BIN := .venv/bin
RUN := $(BIN)/python -m

# The first Python from 3.11 to 3.13 that is there; set PYTHON to choose.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	  "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo "$$p" && break; \
	done)

# Byte code of all that is installed would take a third longer, and most of it is never imported: `compile` makes that of
# what runs and commands import.
install: .venv/installed

.venv/installed: setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; none was found (set PYTHON=/path/to/python)" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@tools/install.sh 'dev$(WITH)'
	@$(RUN) tamarin_dagster.cli compile
	@touch $@

dev: install
	@exec $(RUN) tamarin_dagster.cli dev

# Three processes for two cores, since many tests wait for a server now and then. One that has nothing left to do takes
# tests from another, so that no long file decides the end.
WORKERS ?= $(shell $(BIN)/python -c "import os; cores = os.cpu_count() or 1; print(min(6, cores + cores // 2))")

# With byte code: pytest's own takes half a minute to make, and each program that a test starts would be compiled anew.
PYTEST_PARALLEL = PYTHONDONTWRITEBYTECODE= $(RUN) pytest --numprocesses $(WORKERS) --dist worksteal

# Byte code of the tests and of all that they import. Without it each process of `make test` makes all of it at its start.
test-byte-code: install
	@PYTHONDONTWRITEBYTECODE= $(RUN) pytest --collect-only --quiet >/dev/null

# PYTEST=-k... chooses.
test: install
	@$(PYTEST_PARALLEL) --ignore tamarin_dagster_tests/browser $(PYTEST)

# Restarts and recoveries of real servers, upgrades from every revision, all pages of the documentation, the reduced matrix
# of faults; and every property with all its examples. SLOW=-k... chooses.
test-slow: install
	@$(PYTEST_PARALLEL) --ignore tamarin_dagster_tests/browser -m 'slow or hypothesis' --hypothesis-profile full $(SLOW)

# The benchmarks at their smallest: that each runs, not what it measures.
test-bench: install
	@$(RUN) pytest -m bench

# Dagster's page, clicked through in headless Chromium (chromium or google-chrome on the PATH, or CHROMIUM=...).
test-browser: .venv/browser-installed
	@$(RUN) pytest -m browser tamarin_dagster_tests/browser

# The pictures of the README and of docs/.
screenshots: .venv/browser-installed
	@SCREENSHOTS=docs/images $(RUN) pytest -m browser tamarin_dagster_tests/browser

# Runs on Celery workers that are killed; five minutes. Skipped where redis-server is not installed.
# CELERY=-k... chooses.
test-celery: install
	@$(RUN) pytest -m celery tamarin_dagster_tests/deploy $(CELERY)

# Other log analysers read a month, and say what we say. Skipped where one is not installed:
# apt-get install analog awstats goaccess
test-peers: install
	@$(RUN) pytest -m peers tamarin_dagster_tests/peers

# Spark loads days into a lake, and its executors and drivers are killed. Skipped where pyspark or Java is not installed:
# apt-get install openjdk-17-jre-headless
test-spark: .venv/spark-tests-installed
	@$(RUN) pytest -m spark tamarin_dagster_tests/lake $(SPARK)

# Image, compose files and values for the chart, with their own tools; no engine is needed.
test-deploy: .venv/deploy-installed
	@$(RUN) pytest tamarin_dagster_tests/deploy

# How many kills at random moments beside the matrix.
KILLS ?= 200

# The table goes into docs/explanation/reliability.md. Half an hour with the kills; the row of the full disk takes root.
chaos: install
	@$(RUN) tamarin_dagster_tests.chaos --kills $(KILLS) --markdown docs/explanation/reliability.md

# Objects of random bytes and of mutated lines, each line accounted for.
hostile: install
	@$(RUN) tamarin_dagster_tests.chaos.hostile

# Dagster on a log bucket that gets 50 keys a second, a kill -9 of a random process each minute.
MINUTES ?= 30

soak: install
	@$(RUN) tamarin_dagster_tests.chaos.soak --minutes $(MINUTES)

# What `make lint` reads for spelling and for words to avoid (tools/words_to_avoid.txt).
PROSE := README.md CHANGELOG.md docs

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(RUN) mypy
	@$(BIN)/lint-imports
	@$(RUN) codespell_lib $(PROSE)

format: install
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# What only some need, beside what `install` takes: the extras `bench`, `browser`, `deploy`, `docs`, `fuzz`, `spark-tests`.
.venv/%-installed: .venv/installed
	@tools/install.sh 'dev,$*'
	@touch $@

TESTED_EXTRAS := browser,deploy,docs,fuzz
COMMA := ,
TESTED_STAMPS := $(patsubst %,.venv/%-installed,$(subst $(COMMA), ,$(TESTED_EXTRAS)))

# All that the tests take, in one step if nothing is installed yet.
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

# How long it fuzzes.
SECONDS ?= 60

fuzz: .venv/fuzz-installed
	@$(RUN) tamarin_dagster_tests.fuzz.fuzz_parser --seconds $(SECONDS)

# The pages that are made of the code.
docs-pages: install
	@$(RUN) tools.describe_tables > docs/reference/tables.md
	@$(RUN) tools.describe_commands > docs/reference/cli.md
	@$(RUN) tools.describe_settings > docs/reference/settings.md

# These, and a site of all pages: site/, which can be read from the disk. A link that leads nowhere ends it.
docs: docs-pages .venv/docs-installed
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --quiet --clean
	@echo "site/index.html"

docs-serve: .venv/docs-installed
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs serve --strict

# No home: it may hold records that are nowhere else.
clean:
	rm -rf .venv site .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
