"""The weight format int8-v1: its rounding by hand, its products exactly, and whole models of every family."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tunix_rt.contract.weight_formats import INT8_V1
from tunix_rt.errors import InvalidArtifact, InvalidInput
from tunix_rt.models.adapters import linear_at
from tunix_rt.models.cached import Weights, decode_weights, forward_cached, init_cache, logits_of, weight_bytes
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.parameters import decoder_with, parameters_of
from tunix_rt.models.quantized import Int8Matrix, QuantizedLinear, dequantize, product, quantize
from tunix_rt.models.weight_map import linear_paths

_ROTARY: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
_WINDOWED = {"num_hidden_layers": 3, "layer_types": ("sliding_attention", "full_attention", "sliding_attention")}
CONFIGS = {
    "llama": ModelConfig(**_ROTARY),
    "llama_tied_with_biases": ModelConfig(**_ROTARY, tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
    "qwen2": ModelConfig(**_ROTARY, family="qwen2"),
    "qwen3": ModelConfig(**_ROTARY, family="qwen3"),
    "mistral": ModelConfig(**_ROTARY, family="mistral", layer_types=("sliding_attention",) * 2, sliding_window=5),
    "gemma3": ModelConfig(
        **_ROTARY | _WINDOWED,
        family="gemma3",
        tie_word_embeddings=True,
        sliding_window=5,
        query_pre_attn_scalar=12,
        final_logit_softcapping=3.0,
    ),
    "smollm3": ModelConfig(**_ROTARY, family="smollm3", unrotated_layers=(1,)),
    "gemma2": ModelConfig(
        **_ROTARY | _WINDOWED, family="gemma2", sliding_window=5, attention_softcapping=2.0, final_logit_softcapping=3.0
    ),
    "olmo2": ModelConfig(**_ROTARY, family="olmo2"),
    "phi3": ModelConfig(**_ROTARY, family="phi3", partial_rotary_factor=0.5),
    "qwen3_moe": ModelConfig(
        **_ROTARY, family="qwen3_moe", num_experts=3, num_experts_per_tok=2, moe_intermediate_size=20, dense_layers=(1,)
    ),
    "gpt2": ModelConfig(**_ROTARY | {"num_key_value_heads": 4}, family="gpt2", tie_word_embeddings=True),
}
LENGTH = 16


def as_float32(array: Any) -> np.ndarray:
    return np.asarray(array, np.float32)


def test_weights_are_rounded_half_to_even_and_each_row_to_its_own_scale() -> None:
    matrix = quantize(as_float32([[127, 0.5, 1.5, -2.5], [-254, 1, 3, 5], [0, 0, 0, 0]]))
    assert matrix.values.dtype == jnp.int8
    assert matrix.values.tolist() == [[127, 0, 2, -2], [-127, 0, 2, 2], [0, 0, 0, 0]]
    assert matrix.scale.tolist() == [1, 2, 0]


@pytest.mark.parametrize("shape", [(1, 1), (80, 48), (4097, 3)])
def test_no_weight_is_off_by_more_than_half_a_step(shape: tuple[int, int]) -> None:
    chance = np.random.default_rng(0)
    weights = as_float32(chance.normal(size=shape) * 10 ** chance.uniform(-30, 30, (shape[0], 1)))
    matrix = quantize(weights)
    step = np.abs(weights).max(axis=1, keepdims=True) / 127
    assert (np.abs(as_float32(dequantize(matrix)) - weights) <= step * 0.5001).all()
    assert (np.abs(np.asarray(matrix.values, np.int32)).max(axis=1) == 127).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(InvalidArtifact, match="not finite"):
        quantize(as_float32([[1, 2], [value, 1]]))


def test_a_product_of_whole_numbers_is_exact() -> None:
    chance = np.random.default_rng(1)
    rows, values = chance.integers(-127, 128, (5, 700)), chance.integers(-127, 128, (9, 700))
    rows[:, 0] = 127  # so that a row's scale is 1
    scale = as_float32(2.0 ** np.arange(9))
    found = product(jnp.asarray(rows, jnp.float32), Int8Matrix(jnp.asarray(values, jnp.int8), jnp.asarray(scale)))
    assert (np.asarray(found) == rows @ values.T * scale).all()
    assert np.abs(rows @ values.T).max() > 127 * 127


def test_rows_are_rounded_to_16_bits_each_to_its_own_scale() -> None:
    identity = quantize(np.eye(5, dtype=np.float32) * 127)  # values 127, scale 1
    chance = np.random.default_rng(3)
    rows = as_float32(chance.normal(size=(40, 5)) * 10 ** chance.uniform(-20, 20, (40, 1)))
    rows[0] = 0
    rows[1] = [1e-39, 0, 0, 0, -1e-39]
    found = np.asarray(product(jnp.asarray(rows), identity)) / 127
    assert np.isfinite(found).all()
    assert not found[0].any()
    step = np.abs(rows[2:]).max(axis=1, keepdims=True) / 127 / 254
    error = np.abs(found[2:] - rows[2:])
    assert (error <= step * 0.501).all()
    assert error.max() > 0


def test_a_rows_product_does_not_depend_on_its_neighbours() -> None:
    chance = np.random.default_rng(2)
    matrix = quantize(as_float32(chance.normal(size=(80, 48))))
    rows = as_float32(chance.normal(size=(8, 48)))
    alone = [np.asarray(product(jnp.asarray(row[None]), matrix))[0] for row in rows]
    rows[3] *= 1e6
    crowd = np.asarray(product(jnp.asarray(rows[::-1]), matrix))[::-1]
    for i in (0, 1, 2, 4, 5, 6, 7):
        assert crowd[i].tobytes() == alone[i].tobytes()


def test_a_row_that_is_not_a_number_spoils_itself_alone() -> None:
    rows = as_float32([[1, 2], [np.nan, 1], [np.inf, 1]])
    found = np.asarray(product(jnp.asarray(rows), quantize(as_float32([[1, 2]]))))
    assert np.isfinite(found[:, 0]).tolist() == [True, False, False]


def dequantized(decoder: Decoder) -> Decoder:
    """The decoder with float32 weights that are exactly those that int8 stands for; embedding rows are left alone."""
    parameters = parameters_of(decoder)
    for path in linear_paths(decoder.config):
        kernel = parameters[f"{path}.kernel"]  # [L, in, out], or [L, E, in, out]
        each = kernel.reshape(-1, *kernel.shape[-2:])
        rounded = np.stack([as_float32(dequantize(quantize(matrix.T))).T for matrix in each])
        parameters[f"{path}.kernel"] = rounded.reshape(kernel.shape)
    return decoder_with(decoder.config, parameters)


def logits(weights: Weights, config: ModelConfig) -> np.ndarray:
    """Of two prompts at once, [2, T, V]."""
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, config.vocab_size, (2, LENGTH)), jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(LENGTH, dtype=jnp.int32), (2, LENGTH))
    hidden, _ = forward_cached(weights, config, tokens, positions, init_cache(config, slots=2, capacity=LENGTH))
    return np.asarray(logits_of(weights, config, hidden))


@pytest.mark.parametrize(
    "name", [name if name == "llama" else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_logits_are_those_of_the_weights_that_int8_stands_for(name: str) -> None:
    config = CONFIGS[name]
    decoder = Decoder(config, rngs=nnx.Rngs(1))
    int8 = decode_weights(decoder, weight_format=INT8_V1)
    exact = decode_weights(dequantized(decoder))
    exact = exact._replace(table=dequantize(quantize(as_float32(decoder.output_table()))))
    with jax.disable_jit():
        found, expected = logits(int8, config), logits(exact, config)
    # Nothing differs but the rounding of what goes into a product: an error of up to 1/254/254 of a row's largest
    # entry, 2e-5 of a row's own size in the mean. Eight to twelve such roundings lie behind a logit: √12 * 2e-5 = 7e-5.
    size = np.sqrt(np.mean(expected**2))
    error = np.abs(found - expected)
    assert 0.05 < size < 100
    assert np.sqrt(np.mean(error**2)) < 3e-4 * size
    assert error.max() < 2e-3 * size


@pytest.mark.parametrize("name", CONFIGS)
def test_every_linear_layer_is_int8_and_the_rest_is_what_it_was(name: str) -> None:
    config = CONFIGS[name]
    decoder = Decoder(config, rngs=nnx.Rngs(1))
    plain, int8 = decode_weights(decoder), decode_weights(decoder, weight_format=INT8_V1)
    kinds = {leaf.dtype for leaf in jax.tree.leaves(int8)}
    assert kinds == {jnp.dtype("int8"), jnp.dtype("float32")}
    for path in linear_paths(config):
        of_decoder = linear_at(decoder, path)
        for layer, block in enumerate(int8.blocks):
            found: Any = block
            for part in path.split(".")[1:]:
                found = None if found is None else getattr(found, part)
            if found is None:  # a layer with experts, or one without
                continue
            assert isinstance(found, QuantizedLinear)
            assert (found.bias is None) == (of_decoder.bias is None)
            if of_decoder.bias is not None:
                assert (found.bias[...] == of_decoder.bias[...][layer]).all()
    assert int8.embedding.tobytes() == plain.embedding.tobytes()
    for weights, weight_format in ((plain, ""), (int8, INT8_V1)):
        arrays = {id(leaf): leaf.nbytes for leaf in jax.tree.leaves(weights)}  # a tied table is the embedding's array
        assert sum(arrays.values()) == weight_bytes(config, weight_format)


def test_an_unknown_weight_format_is_refused_by_name() -> None:
    decoder = Decoder(CONFIGS["llama"], rngs=nnx.Rngs(1))
    with pytest.raises(InvalidInput, match=r"weight_format: .*int8-v1"):
        decode_weights(decoder, weight_format="int8")
