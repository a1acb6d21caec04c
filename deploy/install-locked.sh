#!/bin/sh
# Installs what deploy/requirements/LIST.txt pins into the environment of PYTHON. Every file needs a hash in
# requirements.lock and nothing else is fetched, neither for resolution nor to build a source distribution: what builds
# is installed before it, from the list `build`. Runs in the root of the project, with uv on the PATH.
#   install-locked.sh LIST PYTHON
set -eu
list=$1 python=$2

# nkeys publishes no wheel.
uv pip install --quiet --python "$python" --no-deps --require-hashes \
  --constraint requirements.lock --requirement "deploy/requirements/$list.txt" \
  --only-binary :all: --no-binary nkeys --no-build-isolation
