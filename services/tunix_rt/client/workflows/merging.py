"""Merges an adapter into its base model in a separate process, so that the client needs no JAX."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunix_rt.client.resources.models import ModelVersion
from tunix_rt.contract.enums import ModelFormat
from tunix_rt.errors import FailedPrecondition

NEEDED = ("jax", "flax", "safetensors", "tokenizers")


def merge_adapter(model: ModelVersion[Any], out: Path, *, artifacts_uri: str) -> dict[str, Any]:
    """Write the adapter ``model`` and its base as one model to ``out``; returns directory, digest and size in bytes.

    Nothing outside of ``artifacts_uri``, the root of the artifact store, is read or fetched, whatever ``model`` says.
    Raises `FailedPrecondition` when ``model`` is not an adapter, and when the libraries, the adapter or its base are
    missing.
    """
    if model.format is not ModelFormat.PEFT_ADAPTER:
        raise FailedPrecondition(f"model {model.id} is not an adapter")
    require(NEEDED)
    command = [sys.executable, "-m", "tunix_rt.models.merge", f"--adapter={model.artifact.uri}", "--files"]
    command += [f"--digest={model.artifact.digest}", f"--artifacts={artifacts_uri}", f"--out={out}"]
    files = [{"path": f.path, "digest": f.digest, "size_bytes": f.size_bytes} for f in model.artifact.files]
    done = subprocess.run(command, input=json.dumps(files), capture_output=True, text=True)
    if done.returncode != 0:
        raise FailedPrecondition(f"model {model.id} cannot be merged: {done.stderr.strip()[-2000:]}")
    merged: dict[str, Any] = json.loads(done.stdout)
    return merged


def require(libraries: Sequence[str]) -> None:
    """Raises `FailedPrecondition` naming those of ``libraries`` that are not installed."""
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        raise FailedPrecondition(
            f"this needs {', '.join(missing)}; install them with `pip install 'tunix-rt[trainer]'`"
        )
