"""Small decoders and examples, and a compiler that is told not to optimise: programs here run once or twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer.engine.data import Example

CONFIG = ModelConfig(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    tie_word_embeddings=True,
    initializer_range=0.2,
)
Compile = Callable[..., Callable[..., Any]]


def _compile_quickly(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    wrapped = function if isinstance(function, jax.stages.Wrapped) else jax.jit(function)
    # The same mathematics in a sixth of the compiler's time (measured on a training step: 1.5 s of CPU, not 8.8 s).
    options = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    return wrapped.lower(*arguments).compile(compiler_options=options)


@pytest.fixture(scope="session")
def compile_quickly() -> Compile:
    """``compile_quickly(function, *arguments)``: the function (jitted or not) compiled for such arguments."""
    return _compile_quickly


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    return CONFIG


@pytest.fixture(scope="session")
def _parameters() -> Any:
    """Of `decoder`, on the host."""
    draw = _compile_quickly(lambda: nnx.state(Decoder(CONFIG, rngs=nnx.Rngs(7)), nnx.Param))
    return jax.device_get(draw())


@pytest.fixture
def decoder(_parameters: Any) -> Decoder:
    graph = nnx.graphdef(nnx.eval_shape(lambda: Decoder(CONFIG, rngs=nnx.Rngs(7))))
    found: Decoder = nnx.merge(graph, jax.tree.map(jax.numpy.array, _parameters))
    return found


@pytest.fixture
def examples() -> list[Example]:
    """Twelve examples of 5 to 11 tokens whose first three are prompt."""
    source = np.random.default_rng(0)
    lengths = [5, 11, 7, 9, 6, 10, 8, 5, 7, 11, 9, 6]
    return [Example(source.integers(0, 32, n).astype(np.int32), np.arange(n) >= 3) for n in lengths]
