"""Writes a model version for other programs in a separate process, so that the client needs no JAX."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunix_rt.client.resources.models import ModelVersion
from tunix_rt.client.workflows.merging import NEEDED, require
from tunix_rt.contract.enums import ModelFormat
from tunix_rt.contract.exports import FORMAT
from tunix_rt.errors import FailedPrecondition


def export_model(
    model: ModelVersion[Any],
    out: Path,
    *,
    artifacts_uri: str,
    dtype: str = "",
    format: str = FORMAT.default,
    max_shard_size: str = "",
    merge: bool = False,
    base_name: str = "",
    card: str = "",
    on_stage: Callable[[str], object] | None = None,
) -> dict[str, Any]:
    """Write ``model`` to the new directory ``out``, atomically; returns directory, digest, size in bytes and files.

    ``dtype`` "" keeps the stored type; ``format`` is ``safetensors`` or ``gguf``; ``max_shard_size`` as ``5GB``. An
    adapter stays one, with ``base_name`` for its base if given, unless ``merge`` asks for the whole model. ``card`` is
    the content of README.md (`model_card`). ``on_stage`` hears what is done. A model in the artifact store is read only
    below ``artifacts_uri``, its root. Raises `FailedPrecondition` with every reason why it cannot be written.
    """
    require(NEEDED)
    order = {
        "out": str(out),
        "cache_dir": str(Path.home() / ".cache" / "tunix-rt"),
        "artifacts": artifacts_uri,
        "dtype": dtype,
        "format": format,
        "max_shard_size": max_shard_size,
        "merge": merge,
        "base_name": base_name,
        "name": f"{model.name}/{model.version}",
        "card": card,
        **_place(model),
    }
    command = [sys.executable, "-m", "tunix_rt.models.exporting"]
    with tempfile.TemporaryFile("w+") as problems:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=problems, text=True)
        try:
            done = _followed(process, json.dumps(order), on_stage)
        except BaseException:
            # It removes what it has written so far.
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        if process.wait() != 0:
            problems.seek(0)
            raise FailedPrecondition(f"model {model.id} cannot be exported: {problems.read().strip()[-2000:]}")
    return done


def _place(model: ModelVersion[Any]) -> dict[str, Any]:
    if model.format is ModelFormat.REFERENCE:
        return {"reference": model.reference}
    files = [{"path": f.path, "digest": f.digest, "size_bytes": f.size_bytes} for f in model.artifact.files]
    return {"uri": model.artifact.uri, "digest": model.artifact.digest, "files": files}


def _followed(process: subprocess.Popen[str], order: str, on_stage: Callable[[str], object] | None) -> dict[str, Any]:
    """The last line that is not a stage."""
    done: dict[str, Any] = {}
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process needs pipes")
    with process.stdin as stdin:
        stdin.write(order)
    with process.stdout as stdout:
        for line in stdout:
            found = json.loads(line)
            if "stage" not in found:
                done = found
            elif on_stage is not None:
                on_stage(str(found["stage"]))
    return done
