"""An adapter merged into the parameters of its base, on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.peft_files import AdapterWeights, Factors
from tunix_rt.models.weight_map import FAMILIES, Array, Parameters, hf_names, rows_of


def merge(config: ModelConfig, parameters: Parameters, adapter: AdapterWeights) -> tuple[ModelConfig, Parameters]:
    """``parameters`` with each adapter added to the kernel of its layer, in float32, and the saved tensors in place of
    theirs. Other parameters are shared.

    The config has no tied embeddings any more if the adapter has a table of its own for input or output: PEFT trains
    and saves a copy, to which the other is not tied. Raises `InvalidArtifact` naming a tensor of another shape, and for
    weights that DoRA cannot rescale.
    """
    config, merged = with_saved(config, dict(parameters), adapter.saved)
    for path, factors in adapter.factors.items():
        name = f"{path}.kernel"
        kernel = merged[name] + factors.scaling[:, None, None] * (factors.a @ factors.b)  # [L, in, out]
        merged[name] = kernel if factors.magnitude is None else _rescaled(path, kernel, factors, factors.magnitude)
    return config, merged


def _rescaled(path: str, kernel: Array, factors: Factors, magnitude: Array) -> Array:
    """The weights of each output brought to the norm ``magnitude`` [L, out], in layers with an adapter."""
    norm = np.linalg.norm(kernel, axis=1)  # [L, out]
    adapted = factors.scaling != 0
    if not norm[adapted].all():
        raise InvalidArtifact(f"the adapter of {path} makes weights zero that DoRA divides by")
    gain = np.divide(magnitude, norm, out=np.ones_like(norm), where=adapted[:, None])
    rescaled: Array = kernel * gain[:, None, :]
    return rescaled


def with_saved(
    config: ModelConfig, parameters: Parameters, saved: Mapping[str, Array]
) -> tuple[ModelConfig, Parameters]:
    """``parameters`` with an adapter's saved tensors in place of theirs, as `merge` says; changes the mapping."""
    tables = [row.hf for row in FAMILIES[config.family] if row.parameter in ("embedding", "head")]
    if config.tie_word_embeddings and not saved.keys().isdisjoint(tables):
        config = dataclasses.replace(config, tie_word_embeddings=False)
        parameters["head"] = parameters["embedding"]
    for row in rows_of(config):
        names = hf_names(row, config)
        if saved.keys().isdisjoint(names):
            continue
        value = parameters[row.parameter].copy()
        each = value.reshape(len(names), *value.shape[2:]) if "{expert}" in row.hf else value
        for index, name in enumerate(names):
            if name in saved:
                tensor = saved[name].T if row.transposed else saved[name]
                own = each[index] if "{layer}" in row.hf else value
                if tensor.shape != own.shape:
                    raise InvalidArtifact(f"the adapter's {name} has shape {saved[name].shape}, unlike its base's")
                own[...] = tensor
        parameters[row.parameter] = value
    return config, parameters
