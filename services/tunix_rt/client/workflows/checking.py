"""Checks a model of this machine in a separate process, so that the client needs no JAX."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

from tunix_rt.errors import FailedPrecondition

_NEEDED = ("jax", "flax", "safetensors", "tokenizers")


def check_model(reference: str, *, base: str = "", artifacts_uri: str = "") -> dict[str, Any]:
    """What is known of the model behind ``reference`` once its files, weights' headers, tokenizer and template were
    checked: digest, family, number of parameters, base, warnings.

    ``base`` is the base model of an adapter that does not name it with its digest: it is written beside the adapter
    (``base_model.json``). ``artifacts_uri`` is the root of the artifact store, where an adapter's base may be. Raises
    `FailedPrecondition` saying what is wrong with the model, or which libraries are missing.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise FailedPrecondition(
            f"checking a model needs {', '.join(missing)}; install them with `pip install 'tunix-rt[trainer]'`"
        )
    command = [sys.executable, "-m", "tunix_rt.models.check", f"--base={base}", f"--artifacts={artifacts_uri}"]
    done = subprocess.run([*command, "--", reference], capture_output=True, text=True)
    if done.returncode != 0:
        raise FailedPrecondition(f"{reference} cannot be loaded: {done.stderr.strip()[-2000:]}")
    checked: dict[str, Any] = json.loads(done.stdout)
    return checked
