from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tunix_rt.errors import InvalidInput
from tunix_rt.models.adapters import adapters_of, add_adapters, dropout_root, set_dropout
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.layers import Linear
from tunix_rt.models.peft_files import LoraSettings, shortest_names, target_paths

ATTENTION = tuple(f"blocks.attention.{name}" for name in "qkvo")
MLP = ("blocks.mlp.gate", "blocks.mlp.up", "blocks.mlp.down")


@pytest.fixture
def decoder() -> Decoder:
    config = ModelConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        initializer_range=0.2,
    )
    return Decoder(config, rngs=nnx.Rngs(7))


def logits(decoder: Decoder) -> jax.Array:
    tokens = jnp.asarray([[3, 1, 4, 1, 5, 9, 2, 6]], jnp.int32)
    return decoder(tokens, jnp.arange(8, dtype=jnp.int32)[None])


@pytest.mark.parametrize(
    ("family", "modules", "paths"),
    [
        ("llama", ["v_proj", "q_proj"], (ATTENTION[0], ATTENTION[2])),
        ("llama", ["self_attn.q_proj", "mlp.down_proj"], (ATTENTION[0], MLP[2])),
        ("llama", ["all-linear"], (*ATTENTION, *MLP)),
        ("phi3", ["qkv_proj"], ("blocks.attention.qkv",)),
        (
            "phi3",
            ["all-linear"],
            ("blocks.attention.qkv", "blocks.attention.o", "blocks.mlp.gate_up", "blocks.mlp.down"),
        ),
        # Transformers has the experts of a layer in one tensor, to which adapters of linear layers do not apply.
        ("qwen3_moe", ["all-linear"], ATTENTION),
        ("gpt2", ["c_proj"], ("blocks.attention.c_proj", "blocks.mlp.c_proj")),
        ("gpt2", ["mlp.c_proj", "c_attn"], ("blocks.attention.c_attn", "blocks.mlp.c_proj")),
    ],
)
def test_a_target_module_is_the_end_of_a_hugging_face_name(
    family: str, modules: list[str], paths: tuple[str, ...]
) -> None:
    assert target_paths(family, modules) == paths
    assert target_paths(family, shortest_names(family, paths)) == paths


def test_names_say_no_more_than_they_must() -> None:
    assert shortest_names("llama", [MLP[2], ATTENTION[0]]) == ["down_proj", "q_proj"]
    assert shortest_names("gpt2", ["blocks.mlp.c_proj", "blocks.mlp.c_fc"]) == ["c_fc", "mlp.c_proj"]


def test_every_unknown_module_is_named_with_those_that_there_are() -> None:
    with pytest.raises(InvalidInput) as caught:
        target_paths("llama", ["q_proj", "c_attn", "proj"], field="hyperparameters.lora.target_modules")
    first, second = caught.value.violations
    assert first.field == "hyperparameters.lora.target_modules[1]"
    assert second.field == "hyperparameters.lora.target_modules[2]"
    assert first.description.endswith("q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, or all-linear")


def test_a_fresh_adapter_changes_no_bit(decoder: Decoder) -> None:
    before = logits(decoder)
    add_adapters(decoder, LoraSettings(4, 8.0, ("all-linear",)), seed=0)
    assert tuple(adapters_of(decoder)) == (*ATTENTION, *MLP)
    np.testing.assert_array_equal(logits(decoder), before)


def test_the_first_factor_starts_uniform_within_one_over_root_of_the_inputs(decoder: Decoder) -> None:
    # Kaiming-uniform with a = sqrt(5): gain sqrt(1/3), bound gain * sqrt(3 / inputs), variance bound^2 / 3.
    add_adapters(decoder, LoraSettings(256, 1.0, ("up_proj", "down_proj")), seed=2**40 + 3)
    for path, inputs in (("blocks.mlp.up", 16), ("blocks.mlp.down", 24)):
        adapter = adapters_of(decoder)[path]
        a = np.asarray(adapter.a[...])
        assert a.shape == (3, inputs, 256)
        assert 0.99 / np.sqrt(inputs) < np.abs(a).max() <= 1 / np.sqrt(inputs)
        assert a.var() == pytest.approx(1 / (3 * inputs), rel=0.05)
        assert not np.any(adapter.b[...])
        # Layers do not start alike.
        assert not np.array_equal(a[0], a[1])


def test_all_bits_of_the_seed_count(decoder: Decoder) -> None:
    keys = [jax.random.key_data(dropout_root(seed)).tolist() for seed in (0, 1, 1 << 32, 1 << 62)]
    assert len({tuple(key) for key in keys}) == 4


def test_a_layer_adds_its_inputs_times_both_factors_times_alpha_over_rank(decoder: Decoder) -> None:
    add_adapters(decoder, LoraSettings(2, 6.0, ("o_proj",)), seed=0)
    whole = decoder.blocks.attention.o
    whole.adapter.b.set_value(jax.random.normal(jax.random.key(1), whole.adapter.b.shape))
    layer: Linear = jax.tree.map(lambda leaf: leaf[1], whole)
    x = np.random.default_rng(0).standard_normal((2, 5, 16)).astype(np.float32)
    kernel, a, b = (np.asarray(p[...])[1] for p in (whole.kernel, whole.adapter.a, whole.adapter.b))
    np.testing.assert_allclose(layer(jnp.asarray(x)), x @ kernel + 3.0 * (x @ a @ b), rtol=1e-5, atol=1e-5)


def test_dropout_drops_and_rescales_the_adapters_input_alone(decoder: Decoder) -> None:
    add_adapters(decoder, LoraSettings(1, 1.0, ("q_proj",), dropout=0.25), seed=0)
    adapter = adapters_of(decoder)["blocks.attention.q"]
    adapter.a.set_value(jnp.ones_like(adapter.a[...]) / 16)
    adapter.b.set_value(jnp.ones_like(adapter.b[...]))
    x = jnp.ones((4000, 16))
    set_dropout(decoder, dropout_root(0))
    # Both layers at once would do, but for the keys: a layer sees its own.
    whole = adapters_of(decoder)["blocks.attention.q"]
    kernel = jnp.zeros((16, 16))
    dropped = np.asarray(jax.tree.map(lambda leaf: leaf[0], whole)(x, x @ kernel, kernel))[:, 0]
    other = np.asarray(jax.tree.map(lambda leaf: leaf[1], whole)(x, x @ kernel, kernel))[:, 0]
    # Each of the 16 inputs is 0 or 4/3: the sums are sixteenths of 4/3, and 1 on average.
    np.testing.assert_allclose(dropped * 12, np.round(dropped * 12), atol=1e-4)
    assert dropped.mean() == pytest.approx(1.0, abs=0.01)
    assert np.mean(dropped != other) > 0.5


def test_the_same_key_gives_the_same_noise_and_every_module_its_own(decoder: Decoder) -> None:
    add_adapters(decoder, LoraSettings(2, 2.0, ("q_proj", "k_proj"), dropout=0.5), seed=0)

    def keys(root: jax.Array) -> np.ndarray:
        set_dropout(decoder, root)
        found = (adapter.dropout_keys for adapter in adapters_of(decoder).values())
        return np.stack([jax.random.key_data(keys[...]) for keys in found if keys is not None])

    first = keys(dropout_root(5))
    assert len(np.unique(first.reshape(-1, first.shape[-1]), axis=0)) == 2 * 3  # modules x layers
    np.testing.assert_array_equal(first, keys(dropout_root(5)))
    assert not np.any(np.all(first == keys(dropout_root(6)), axis=-1))
