# make demo   installs and runs pretrain-ae -> embed -> train-ser -> report offline on synthetic corpora
# make test   installs and runs all tests
# PYTHON      3.11 or 3.12: what constraints.txt was made for
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(if $(shell $(p) -c 'import sys; print((3, 11) <= sys.version_info < (3, 13) or "")' 2>/dev/null),$(p))))
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.PHONY: install demo test lint docs bench bench-quick bench-more bench-gpu results clean

PLUGINS := $(addprefix plugins/,repkit-cross-corpus repkit-dann repkit-adapters repkit-baselines template)

$(VENV)/.installed: pyproject.toml constraints.txt $(addsuffix /pyproject.toml,$(PLUGINS))
	$(or $(PYTHON),$(error No Python 3.11 or 3.12 found: make PYTHON=PATH)) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".[dev]" $(addprefix -e ,$(PLUGINS)) -e "plugins/repkit-baselines[opensmile,deepspectrum]"
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib # on all cores; pip would use one
	touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/repkit pretrain-ae --recipe demo_autoencoder --corpus synthetic_unlabelled --out demo/ae
	$(BIN)/repkit embed --encoder demo/ae --corpus synthetic_a --out demo/embeddings
	$(BIN)/repkit train-ser --recipe demo --corpus synthetic_a --embeddings demo/embeddings --runs demo/runs
	@echo "Read the report: $$(ls -d demo/runs/demo/*/ | tail -1)report.md"

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder # fixtures of a file are made once

lint: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: install
	$(BIN)/python docs/generate.py

results: install
	$(BIN)/python docs/results/neumann2019.py
	$(BIN)/python docs/results/cross_corpus.py
	$(BIN)/python docs/results/dann.py
	$(BIN)/python docs/results/adapters.py
	$(BIN)/python docs/results/keesing2020.py
	$(BIN)/python docs/results/stage_one.py
	$(BIN)/python docs/results/scale.py
	$(BIN)/python docs/results/leaderboard.py

bench: install
	$(BIN)/python tests/benchmarks/run_all.py

bench-quick: install
	$(BIN)/python tests/benchmarks/run_all.py --quick

bench-more: install
	$(BIN)/python tests/benchmarks/run_all.py --more

bench-gpu: install
	$(BIN)/python tests/benchmarks/run_all.py --gpu

clean:
	rm -rf $(VENV) demo
