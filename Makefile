# labstore: shared storage for the projects of an OpenStack cloud.
#
#   make demo        the whole of it on this machine, live, until Ctrl-C   (ONCE=1: end with the summary)
#   make test        install what is needed, run every tier
#   make coverage    unit tests and contracts, with what they do not reach
#   make check       lint, types and unit tests: under a minute
#   make scenarios   the virtual machines alone;  CORE=1 the few that CI runs;  make scenario NAME=switchover  one of them
#   make openstack   the acceptance run against a real OpenStack control plane on loopback (about 10 minutes)
#   make bench       measure, as ratios against the obvious alternative;  BENCH=exports_cycle  one of them
#   make lock        pin the Python packages anew
#   make clean       remove what the targets above left in this tree

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
WORKERS ?= 2

.PHONY: demo test all check lint unit scenarios scenario openstack bench lock clean setup coverage

demo:
	@scripts/setup demo
	@$(PYTHON) -m labstore.demo $(if $(ONCE),--once)

setup:
	@scripts/setup test

test: setup lint all

all:
	$(PYTEST) -n $(WORKERS)

check: setup lint unit

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

unit:
	$(PYTEST) -n $(WORKERS) tests/unit tests/test_architecture.py tests/test_laws.py

coverage: setup
	@rm -f .coverage .coverage.*
	$(PYTHON) -m coverage run -m pytest tests/unit tests/contracts tests/test_laws.py
	@$(PYTHON) -m coverage combine --quiet
	@$(PYTHON) -m coverage report --skip-covered | tail -n 40

scenarios:
	@scripts/setup lab
	$(PYTEST) tests/scenarios --durations=0 $(if $(NAME),-k $(NAME)) $(if $(CORE),-m core)

scenario: scenarios

openstack: setup
	$(PYTEST) tests/openstack

bench: setup
	$(PYTHON) -m bench $(BENCH)

lock:
	@scripts/lock

clean:
	rm -rf .venv build dist .coverage .coverage.* .mypy_cache .ruff_cache .hypothesis src/*.egg-info
