# The front door. Each target makes .venv and installs the package when that is needed, so all of them work on a fresh clone.
#   make ablation PYTHON=python3.12                                    another Python (3.11 or newer)
#   make ablation TORCH_INDEX=https://download.pytorch.org/whl/cpu     the small build of torch without CUDA

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
TEST_ARGS ?= -n 2 --dist loadfile
FUZZ ?= 2000

# A picture is uploaded in one message; the server's own limit of 10 MiB would cut the connection.
UPLOADS := --ServerApp.tornado_settings='{"websocket_max_message_size": 536870912}'

# Their own trainings are a sample of how it is done; what they show is what the grids recorded.
SAMPLES := notebooks/baselines.ipynb notebooks/environments.ipynb

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install ablation explore test fuzz soak notebooks strip figures lint format clean

help:
	@echo "make ablation    train and evaluate on the embedded cities; leaves runs/ablation.ipynb"
	@echo "make explore     look inside a trained model in JupyterLab; nothing is trained first"
	@echo "make test        the whole test suite: pytest and the notebooks"
	@echo "make fuzz        thousands of faulty files and parameters (FUZZ=2000 of each kind)"
	@echo "make soak        50 runs in one process: what stays behind"
	@echo "make notebooks   run every notebook again, outputs kept (one to two hours on two cores)"
	@echo "make strip       take tool metadata out of the notebooks, outputs kept"
	@echo "make figures     draw figures/ again"
	@echo "make lint        ruff, mypy, import-linter"
	@echo "make format      let ruff mend what it can"
	@echo "make clean       remove .venv and caches; runs/ stays"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "PYTHON=$(PYTHON) is not Python 3.11 or newer; say which: make PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet torch torchvision --index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

ablation: $(INSTALLED)
	@mkdir -p runs
	$(BIN)/python -m papermill notebooks/ablation.ipynb runs/ablation.ipynb -k python3 -p n_desc 4
	@$(BIN)/python -m geodtr_lib.study show runs/ablation.ipynb

explore: $(INSTALLED)
	$(BIN)/python -m jupyterlab $(UPLOADS) notebooks/explore.ipynb

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TEST_ARGS)
	rm -rf build/nbval
	GEODTR_PRESET=smoke GEODTR_RUNS=$(CURDIR)/build/nbval/runs GEODTR_CACHE=$(CURDIR)/build/nbval/cache OMP_NUM_THREADS=1 \
	  $(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout 300 notebooks

# Every case that fails is kept in .hypothesis/ and comes first the next time.
fuzz: $(INSTALLED)
	GEODTR_FUZZ=$(FUZZ) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/test_fuzz.py

soak: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py

notebooks: $(INSTALLED)
	GEODTR_PRESET=small $(BIN)/python -m geodtr_lib.study execute $(filter-out $(SAMPLES),$(wildcard notebooks/*.ipynb)) --into build/notebooks
	GEODTR_PRESET=smoke $(BIN)/python -m geodtr_lib.study execute $(SAMPLES) --into build/notebooks
	cp build/notebooks/*.ipynb notebooks/
	@$(MAKE) --no-print-directory strip

strip: $(INSTALLED)
	$(BIN)/python -m geodtr_lib.study strip $(wildcard notebooks/*.ipynb)

figures: $(INSTALLED)
	$(BIN)/python figures/draw.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
