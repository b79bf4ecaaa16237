# Everything runs from .venv, which `install` makes once through uv; a second call does nothing.
# A smaller download where no GPU will be used:  UV_TORCH_BACKEND=cpu make install
PYTHON ?= python3
BIN := .venv/bin
export PYTHONSAFEPATH := 1

.PHONY: install quickstart test test-slow lint format bench findings clean

install: .venv/.installed

.venv/.installed: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --constraint constraints.txt --editable '.[samples,dev]'
	$(BIN)/python -m jigsaw.data.film  # 58 MB, once per machine
	touch $@

quickstart: install
	$(BIN)/jigsaw launch quickstart

test: install
	$(BIN)/python -m pytest -m "not slow"

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python benchmarks

# The papers' claims with tiny models, three seeds each; can be stopped and goes on.
findings: install
	$(BIN)/python -m jigsaw.evaluation.findings recipes/findings/findings.yaml --out runs/findings --page docs/findings.md

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
