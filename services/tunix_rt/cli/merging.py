"""Merging an adapter, in a process of its own: the command line itself does without the libraries that it takes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunix_rt.errors import FailedPrecondition

if TYPE_CHECKING:
    from tunix_rt.v1 import models_pb2

_NEEDED = ("jax", "flax", "safetensors", "tokenizers")


def merge(model: models_pb2.ModelVersion, out: Path, *, artifacts_uri: str) -> dict[str, Any]:
    """Write the adapter ``model`` and its base as one model to ``out``; its directory, digest and size in bytes.

    Nothing outside of ``artifacts_uri``, the root of the artifact store, is read or fetched, whatever ``model`` says.
    Raises `FailedPrecondition` when ``model`` is not an adapter, or when the libraries, the adapter or its base are
    not there.
    """
    from tunix_rt.v1 import models_pb2

    if model.format != models_pb2.MODEL_FORMAT_PEFT_ADAPTER:
        raise FailedPrecondition(f"model {model.id} is not an adapter: there is nothing to merge")
    require(_NEEDED)
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
            f"merging needs {', '.join(missing)}; install what the trainer has: `pip install 'tunix-rt[trainer]'`"
        )
