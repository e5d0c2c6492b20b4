# Both commands set up all they need in .venv; only Python >= 3.10 and make must be there.
PYTHON ?= python3
BIN = .venv/bin
# The torch that we test with. A plain `pip install .` takes any from 2.11 to 2.13.
TORCH ?= torch==2.13.0
DIGITS = sample_models/digits-resnet
# Two test processes with one thread each beat one with two.
WORKERS ?= 2

.PHONY: demo test test-all lint clean

demo: .venv/installed
	mkdir -p demo
	$(BIN)/modelkit quantize $(DIGITS)/model.onnx --calib $(DIGITS)/digits-calib.npz --data $(DIGITS)/digits-test.npz \
		--max-drop accuracy=0.01 -o demo/digits-int8.onnx --force --report demo/report.html --report demo/report.json
	@echo "Open demo/report.html; demo/report.json holds the same for programs."

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-all: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

lint: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet -e .
	touch $@

.venv/installed-for-tests: .venv/installed
	$(BIN)/pip install --quiet -e ".[test]"
	touch $@

clean:
	rm -rf .venv demo build dist .pytest_cache .mypy_cache .ruff_cache
