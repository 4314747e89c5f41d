# Everything a person does here. Needs Debian 12 (or a relative), root, Python 3.11 and the package registries.
.DEFAULT_GOAL := help
.PHONY: help venv demo test test-fast lint bench up down status doctor perf perf-hydrate perf-release perf-bootdisk lock
# Without bytecode each Airflow task would compile its imports anew.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH

PYTHON_ENV := .venv/bin/python
CHECKED := dags plugins testbench tests config

help: ## This list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

venv: ## Python environment (done by every other target)
	@sh testbench/bootstrap.sh

demo: venv ## Bring up what is missing and release three versions of a model
	@$(PYTHON_ENV) -m testbench.demo

test: lint ## Every test; starts the bench where it does not run, and takes it down again then
	$(PYTHON_ENV) -m pytest -n 2 tests/unit tests/dags
	$(PYTHON_ENV) -m pytest --require-bench --durations=12 tests/bench

test-fast: venv ## Tests that need no bench
	$(PYTHON_ENV) -m pytest -n 2 tests/unit tests/dags

lint: venv ## ruff and mypy
	$(PYTHON_ENV) -m ruff check $(CHECKED)
	$(PYTHON_ENV) -m ruff format --check $(CHECKED)
	$(PYTHON_ENV) -m mypy

up: bench

bench: venv ## Start the bench (also: make up): cluster, fakes and Airflow
	@$(PYTHON_ENV) -m testbench up
	@$(PYTHON_ENV) -m testbench.airflow up

down: venv ## Stop Airflow and the bench, and leave the host as it was
	@$(PYTHON_ENV) -m testbench.airflow down --purge
	@$(PYTHON_ENV) -m testbench down

status: venv ## What runs, and how to log in
	-@$(PYTHON_ENV) -m testbench status
	@$(PYTHON_ENV) -m testbench.airflow status

doctor: venv ## What this host lacks for the bench, and what to do about it
	@$(PYTHON_ENV) -m testbench doctor

perf: perf-hydrate perf-release perf-bootdisk ## Every measurement, as the tables of docs/performance.md

perf-hydrate: venv ## The hydrator against hf download
	@$(PYTHON_ENV) -m testbench.perf.hydrate

perf-release: venv ## What orchestration adds to a release; needs the bench
	@$(PYTHON_ENV) -m testbench.perf.orchestration

perf-bootdisk: venv ## A secondary boot disk against a pull; needs the bench
	@PYTHONPATH=plugins $(PYTHON_ENV) -m testbench.perf.bootdisk

lock: ## Make requirements.lock from requirements*.txt; pins that still fit stay
	@sh testbench/bootstrap.sh lock
