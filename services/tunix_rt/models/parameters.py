"""Conversion between a decoder and its parameters as float32 arrays by dotted name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.adapters import LoraScaling
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.weight_map import Array, Parameters


def _named(state: nnx.State[Any, Any]) -> dict[str, nnx.Variable[jax.Array]]:
    return {".".join(str(part) for part in path): variable for path, variable in nnx.to_flat_state(state)}


def names_on(path: tuple[Any, ...]) -> tuple[str, ...]:
    """The names along a pytree path of parameters, without sequence indices and NNX's own ``value``."""
    keys = (getattr(key, "key", getattr(key, "name", None)) for key in path)
    return tuple(str(key) for key in keys if key is not None and key != "value")


def parameters_of(decoder: Decoder) -> Parameters:
    """Every parameter except the adapters' as a float32 array on the host; layer parameters are [L, …]."""
    own = nnx.state(decoder, nnx.All(nnx.Param, nnx.Not(nnx.Any(nnx.LoRAParam, LoraScaling))))
    return {name: np.asarray(v[...], dtype=np.float32) for name, v in _named(own).items()}


def decoder_with(config: ModelConfig, parameters: Mapping[str, Array]) -> Decoder:
    """A decoder with exactly these parameters; no random initialisation. Raises what `check_parameters` raises."""
    graph, state = nnx.split(_abstract(config))
    named = _named(state)
    _check(named, parameters)
    for name, variable in named.items():
        variable.set_value(jnp.asarray(parameters[name], jnp.float32))
    return nnx.merge(graph, state)


def check_parameters(config: ModelConfig, parameters: Mapping[str, Array]) -> None:
    """Raises `InvalidArtifact` naming each parameter that is missing, surplus, or of the wrong shape."""
    _check(_named(nnx.state(_abstract(config))), parameters)


def _abstract(config: ModelConfig) -> Decoder:
    return nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)))


def _check(named: Mapping[str, nnx.Variable[jax.Array]], parameters: Mapping[str, Array]) -> None:
    problems = [f"{name} is missing" for name in sorted(named.keys() - parameters.keys())]
    problems += [f"{name} is not a parameter of the decoder" for name in sorted(parameters.keys() - named.keys())]
    for name in sorted(named.keys() & parameters.keys()):
        shape, wanted = parameters[name].shape, tuple(named[name].shape)
        if shape != wanted:
            problems.append(f"{name} has shape {shape}, the config requires {wanted}")
    if problems:
        raise InvalidArtifact(f"the weights do not fit the config: {'; '.join(problems[:8])}")
