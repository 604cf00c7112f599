# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

# pymbd, the oracle of our MBD module, has metadata that a current poetry-core refuses. Older pips
# take the limit from the first variable, newer ones from the second; without libMBD's address its
# NumPy code is installed and no compiler is needed.
LIMIT := $(abspath build-constraints.txt)
PYMBD_BUILD := LIBMBD_PREFIX= PIP_CONSTRAINT=$(LIMIT) PIP_BUILD_CONSTRAINT=$(LIMIT)

# What must be covered to the bone: verdict, plan, ladder, schemas.
PURE := qfarm/verdict.py,qfarm/plan.py,qfarm/ladder.py,schemas/*

.PHONY: help demo test check cover schemas clean

help:
	@echo "make demo   install, then take examples/fragments.extxyz to an HDF5 data set in ./$(DEMO)"
	@echo "make test   install, check style, types and import rules, run every test"
	@echo "make check  only style, types and import rules"
	@echo "make clean  remove what the others made (stops the demo's MongoDB first)"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[open,embedded,plot]'
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[open,embedded,plot,test]'
	$(PYMBD_BUILD) $(BIN)/pip install --disable-pip-version-check -q -c constraints.txt --no-deps pymbd
	@touch $@

demo: $(VENV)/.run
	BIN=$(abspath $(BIN)) DEMO=$(DEMO) sh examples/demo.sh

# what waits longest begins first, so that no process is left with it at the end
test: $(VENV)/.test check
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report= \
	  tests/e2e tests/integration tests/conformance tests/unit
	$(BIN)/coverage report --include='$(PURE)' --fail-under=95

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

cover: $(VENV)/.test
	$(BIN)/python -m pytest --cov --cov-report=term

schemas: $(VENV)/.run
	$(BIN)/python -m qfarm_schemas.json_schema schemas/json

clean:
	@if [ -d $(DEMO)/.qfarm ]; then (cd $(DEMO) && ../$(BIN)/qfarm down) || \
	  echo "MongoDB of ./$(DEMO) was not stopped: see its log"; fi
	rm -rf $(DEMO) $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
