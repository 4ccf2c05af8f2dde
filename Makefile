# make serve    the digits demo on ports 8500 (gRPC) and 8501 (HTTP); all a fresh machine needs is Python 3.10 or newer
# make test     the whole test suite          make check    ruff and mypy
# make bench    the quick benchmarks          make protos   serving.desc from the .proto files
# make clean    everything that make made
#
# Variables: PYTHON=python3.12  PORT=9000  REST_PORT=9001  SERVE_FLAGS='--enable_batching'  TEST_FLAGS='-k lifecycle'

PYTHON ?= python3
PORT ?= 8500
REST_PORT ?= 8501
SERVE_FLAGS ?=
TEST_FLAGS ?= -n auto --maxprocesses=8

VENV := .venv
BIN := $(VENV)/bin
MODELS := examples/digits/models
DEMO := $(VENV)/demo.stamp
DEV := $(VENV)/dev.stamp

.PHONY: serve test check bench protos clean

serve: $(DEMO) $(MODELS)/digits/1
	@echo
	@echo "Once the server below says that it runs, ask it from a second terminal:"
	@echo
	@echo "    $(BIN)/python examples/digits/client.py --port $(PORT)"
	@echo
	@echo "Bring in a second version while it runs, and ask again:"
	@echo
	@echo "    cp -r $(MODELS)/aside/2 $(MODELS)/digits/2"
	@echo
	@exec $(BIN)/tensorflow_model_server --port=$(PORT) --rest_api_port=$(REST_PORT) \
		--model_name=digits --model_base_path="$(CURDIR)/$(MODELS)/digits" $(SERVE_FLAGS)

test: $(DEV)
	$(BIN)/python -m pytest $(TEST_FLAGS)

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(DEV)
	@for script in $(sort $(wildcard benchmarks/bench_*.py)); do \
		echo "== $$script"; $(BIN)/python $$script || exit 1; \
	done
	@echo "benchmarks/README.md tells how to drive a running server with the load_*.py scripts"

protos: $(DEV)
	$(BIN)/python protos/build.py

clean:
	rm -rf $(VENV) $(MODELS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Both versions are trained in one go; only the first is put where the server looks.
$(MODELS)/digits/1: | $(DEMO)
	@rm -rf $(MODELS)/aside
	$(BIN)/python examples/digits/train.py $(MODELS)/aside --versions 1,2
	@mkdir -p $(MODELS)/digits
	@mv $(MODELS)/aside/1 $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Installed in place, so that a change of the sources needs no second install; a change of pyproject.toml does.
$(DEMO): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

# What the demo needs is a part of it.
$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(DEMO) $@
