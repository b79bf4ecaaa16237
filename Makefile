# Everything runs from .venv, which `install` makes once through uv; a second call does nothing.
# A smaller download where no GPU will be used:  UV_TORCH_BACKEND=cpu make install
PYTHON ?= python3
BIN := .venv/bin
export PYTHONSAFEPATH := 1

.PHONY: install quickstart test test-slow coverage mutate lint format bench gpu-check docs dist-check findings clean

install: .venv/.installed

.venv/.installed: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --compile-bytecode --constraint constraints.txt --editable '.[samples]'
	$(BIN)/python -m jigsaw.samples.big_buck_bunny  # 58 MB, once per machine
	touch $@

# What tests, lint and the documentation need beside it.
.venv/.tools: .venv/.installed
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --compile-bytecode --constraint constraints.txt --editable '.[samples,dev,docs]'
	touch $@

quickstart: install
	$(BIN)/jigsaw launch quickstart

# Two processes of one thread each; a file's tests stay together and share what they build.
JOBS ?= 2
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadfile

test: .venv/.tools
	$(TEST)

test-slow: .venv/.tools
	$(BIN)/python -m pytest -m slow

# Lines that no test runs. The bounds: 95% of jigsaw/tasks, jigsaw/rewards and jigsaw/data, 85% of the whole.
coverage: .venv/.tools
	$(TEST) --cov=jigsaw --cov-report=term:skip-covered --cov-fail-under=85
	$(BIN)/coverage report --include='jigsaw/tasks/*,jigsaw/rewards/*,jigsaw/data/*' --fail-under=95

# Small changes to the reading and scoring of orders, each of which must fail a test: half an hour.
mutate: .venv/.tools
	$(BIN)/python tests/mutate.py rewards/parse.py rewards/scores.py rewards/orders.py tasks/permutations.py

lint: .venv/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.tools
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python benchmarks

# Ten minutes on one GPU. Any python with torch and transformers will do, nothing is installed: PYTHON=python3 names it;
# without that .venv is used, where there is one.
GPU_CHECK := $(if $(and $(filter file,$(origin PYTHON)),$(wildcard $(BIN)/python)),$(BIN)/python,$(PYTHON))
gpu-check:
	$(GPU_CHECK) benchmarks/gpu.py

# Pages of the reference are written out of the code, then the site into build/docs; dead links fail it.
docs: .venv/.tools
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --config-file mkdocs.yml --clean --strict

# Wheel and source distribution, installed into an environment of their own; what ships must be enough.
dist-check: .venv/.tools
	$(BIN)/python -m pytest -m slow tests/test_distribution.py

# Every package of the image for GPU nodes (Containerfile) at its version.
gpu.lock: setup.cfg constraints.txt
	$(BIN)/uv pip compile --quiet setup.cfg --extra gpu --extra samples --constraint constraints.txt --python-version 3.11 \
		--python-platform x86_64-manylinux_2_28 --no-header --no-annotate --output-file $@

# The papers' claims with tiny models, three seeds each; can be stopped and goes on.
findings: install
	$(BIN)/python experiments/findings.py experiments/findings/findings.yaml --out runs/findings --page docs/findings.md

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
