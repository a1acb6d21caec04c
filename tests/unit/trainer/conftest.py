"""Small decoders and examples, and one process per test for what must not share JAX's state."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx

from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer.engine.examples import Example


@pytest.fixture
def config() -> ModelConfig:
    return ModelConfig(
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


@pytest.fixture
def decoder(config: ModelConfig) -> Decoder:
    return Decoder(config, rngs=nnx.Rngs(7))


@pytest.fixture
def examples() -> list[Example]:
    """Twelve examples of 5 to 11 tokens whose first three are prompt."""
    source = np.random.default_rng(0)
    lengths = [5, 11, 7, 9, 6, 10, 8, 5, 7, 11, 9, 6]
    return [Example(source.integers(0, 32, n).astype(np.int32), np.arange(n) >= 3) for n in lengths]
