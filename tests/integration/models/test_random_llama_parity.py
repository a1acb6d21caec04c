"""Random llama models of odd shapes: our logits are those of Transformers, trained or cached, loaded from its own
files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from tunix_rt.models.cached import decode_weights, forward_cached, init_cache, logits_of
from tunix_rt.models.loading import load
from tunix_rt.models.references import resolve
from tunix_rt.models.tokenizer_training import train_tokenizer

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
BASE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 2,
    # Large enough that a wrong layout cannot hide below the tolerance.
    "initializer_range": 0.2,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "multi_head_untied": {},
    "grouped_heads_tied": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "one_key_head": {"num_key_value_heads": 1, "num_hidden_layers": 3},
    "head_dim_above_hidden_over_heads": {"head_dim": 20, "num_key_value_heads": 2},
    "head_dim_below_hidden_over_heads": {"head_dim": 6, "tie_word_embeddings": True},
    "rope_theta": {"rope_theta": 500000.0, "rms_norm_eps": 1e-3},
    "linear_scaling": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "llama3_scaling": {"rope_scaling": LLAMA3, "rope_theta": 500000.0, "head_dim": 16, "num_key_value_heads": 2},
    "llama3_scaling_tied_one_layer": {"rope_scaling": LLAMA3, "tie_word_embeddings": True, "num_hidden_layers": 1},
    "odd_sizes": {
        "vocab_size": 283,
        "hidden_size": 45,
        "num_attention_heads": 5,
        "num_key_value_heads": 5,
        "head_dim": 14,
    },
}


@pytest.fixture(params=sorted(CONFIGS))
def checkpoint(request: pytest.FixtureRequest, transformers: ModuleType, torch: ModuleType, tmp_path: Path) -> Path:
    """A random model that Transformers made and saved by itself, with a tokenizer of ours beside it."""
    torch.manual_seed(sorted(CONFIGS).index(request.param))
    fields = BASE | CONFIGS[request.param]
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**fields)).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # ones would hide a norm that is not loaded
                parameter.uniform_(0.5, 1.5)
    # Small shards, so that the sharded path is the one that is read.
    model.save_pretrained(tmp_path, max_shard_size="40KB" if "odd" in request.param else "1GB")
    train_tokenizer(["a small text"], 270).save(tmp_path)
    return tmp_path


def _reference_logits(transformers: ModuleType, torch: ModuleType, directory: Path, tokens: np.ndarray) -> np.ndarray:
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        return np.asarray(model(torch.tensor(tokens, dtype=torch.long)).logits.numpy())


def test_logits_equal_those_of_transformers(checkpoint: Path, transformers: ModuleType, torch: ModuleType) -> None:
    model = load(resolve(f"file://{checkpoint}", cache_dir=checkpoint))
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, (2, 40)).astype(np.int32)
    positions = np.broadcast_to(np.arange(40, dtype=np.int32), tokens.shape)
    expected = _reference_logits(transformers, torch, checkpoint, tokens)
    assert np.abs(expected).max() > 0.1  # a model whose logits vanish would agree with anything

    trained = jax.jit(lambda decoder, t, p: decoder(t, p))(model.decoder, tokens, positions)
    np.testing.assert_allclose(trained, expected, atol=1e-4)

    weights, cache = decode_weights(model.decoder), init_cache(model.config, slots=2, capacity=48)
    step = jax.jit(forward_cached, static_argnums=1)
    pieces = []
    for start, stop in ((0, 16), (16, 32), *((i, i + 1) for i in range(32, 40))):
        hidden, cache = step(weights, model.config, tokens[:, start:stop], positions[:, start:stop], cache)
        pieces.append(logits_of(weights, model.config, hidden))
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), expected, atol=1e-4)


def test_our_config_survives_transformers(checkpoint: Path, transformers: ModuleType, tmp_path: Path) -> None:
    ours = load(resolve(f"file://{checkpoint}", cache_dir=checkpoint)).config
    target = tmp_path / "again"
    target.mkdir()
    (target / "config.json").write_text(json.dumps(ours.to_hf()), encoding="utf-8")
    transformers.AutoConfig.from_pretrained(target).save_pretrained(target)
    again = type(ours).from_hf(json.loads((target / "config.json").read_text(encoding="utf-8")))
    assert again == dataclasses.replace(ours, compute_dtype=again.compute_dtype)
