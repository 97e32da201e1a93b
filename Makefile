# Everything a fresh machine needs is made here: Python 3.11 or later, make and git are enough.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info)' 2>/dev/null && echo $$p && break; done)
READY := $(VENV)/.ready

.PHONY: demo test test-all lint docs bench bench-gpu clean

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q --prefer-binary -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)  ## the whole path on shipped material, on a CPU, without network
	$(BIN)/meadowlark demo --out runs/demo

# The same examples at every call: one who runs the tests learns what their change broke.
test: $(READY)  ## every test but the slow ones
	$(BIN)/python -m pytest -m "not slow" -n 2 --hypothesis-profile=ci

test-all: $(READY)  ## every test, and with new random examples each time
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)  ## regenerates docs/cli.md and docs/formats.md from the code
	$(BIN)/python -m meadowlark.cli.reference docs

bench: $(READY)
	for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

# With a GPU it measures with that machine's own python3; without one it prepares what must travel.
ifneq ($(shell command -v nvidia-smi),)
bench-gpu:
	python3 benchmarks/gpu/run.py
else
bench-gpu: $(READY)
	$(BIN)/python benchmarks/gpu/prepare.py
endif

clean:
	rm -rf $(VENV) runs
