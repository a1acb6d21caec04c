"""The estimate made at Validate against what XLA sets aside for the step."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from tunix_rt.contract.hyperparameters import OPTIMIZERS, Hyperparameters, Lora
from tunix_rt.models import attention
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer import memory
from tunix_rt.trainer.engine import loss
from tunix_rt.trainer.engine.data import Batch
from tunix_rt.trainer.engine.hardware import program_bytes
from tunix_rt.trainer.engine.lora import adapt
from tunix_rt.trainer.engine.optimizer import coefficients_of
from tunix_rt.trainer.engine.step import build_step, initial_state
from tunix_rt.trainer.memory import ModelShape, StepShape, estimate_training_bytes, moment_bytes, step_bytes

LARGEST_FACTOR = 1.6


def shape_of(config: ModelConfig, adapter_count: int = 0) -> ModelShape:
    names = [field.name for field in dataclasses.fields(ModelShape) if field.name != "adapter_count"]
    return ModelShape(**{name: getattr(config, name) for name in names}, adapter_count=adapter_count)


def config_of(**changes: Any) -> ModelConfig:
    sizes = {
        "vocab_size": 512,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "tie_word_embeddings": True,
    }
    return ModelConfig(**{**sizes, **changes})


@pytest.mark.parametrize(
    ("config", "run", "lora"),
    [
        pytest.param(config_of(), StepShape(8, 256), None, id="scores-and-activations"),
        pytest.param(
            config_of(family="gemma3", hidden_size=64),
            StepShape(8, 128, remat=True, accumulates=True),
            None,
            id="remat-and-accumulation",
        ),
        pytest.param(config_of(vocab_size=32768), StepShape(16, 128), Lora(8), id="lora-and-logits-in-chunks"),
        pytest.param(config_of(), StepShape(4, 512), None, id="several-blocks-of-queries"),
        pytest.param(
            config_of(
                family="gemma3",
                layer_types=("sliding_attention", "full_attention") * 2,
                sliding_window=8,
                num_hidden_layers=4,
                hidden_size=64,
                intermediate_size=64,
            ),
            StepShape(2, 512),
            None,
            id="mixed-layers",
        ),
        pytest.param(
            config_of(family="gemma2", attention_softcapping=5.0), StepShape(4, 256), None, id="capped-scores"
        ),
        pytest.param(config_of(family="olmo2"), StepShape(4, 256), None, id="norms-after"),
        pytest.param(config_of(family="phi3"), StepShape(4, 256), None, id="packed"),
        pytest.param(
            config_of(
                family="qwen3_moe",
                num_experts=8,
                num_experts_per_tok=2,
                moe_intermediate_size=64,
                intermediate_size=512,
            ),
            StepShape(8, 256),
            None,
            id="experts",
        ),
        pytest.param(config_of(intermediate_size=8192), StepShape(1, 32), None, id="parameters"),
        *(
            pytest.param(config_of(intermediate_size=8192), StepShape(1, 32, optimizer=kind), None, id=kind)
            for kind in OPTIMIZERS[1:]
        ),
    ],
)
def test_the_estimate_is_what_xla_needs_or_somewhat_more(
    config: ModelConfig, run: StepShape, lora: Lora | None, compile_quickly: Any
) -> None:
    coefficients = coefficients_of(Hyperparameters(), 10)
    found: dict[str, Any] = {}

    def start() -> Any:
        decoder = Decoder(config, rngs=nnx.Rngs(0))
        if lora is not None:
            adapt(decoder, lora, seed=0)
        found["graph"], state, frozen = initial_state(decoder, coefficients, optimizer=run.optimizer)
        return state, frozen

    state, frozen = jax.eval_shape(start)
    parts = (2 if run.accumulates else 1, run.rows, run.length)
    batch = Batch(*(jax.ShapeDtypeStruct(parts, kind) for kind in (jnp.int32,) * 4 + (jnp.float32,)))
    adapters = sum(leaf.size for leaf in jax.tree.leaves(state.parameters)) if lora is not None else 0
    step = build_step(found["graph"], "constant", remat=run.remat, optimizer=run.optimizer)
    needed = program_bytes(compile_quickly(step, state, frozen, batch, coefficients))
    estimate = step_bytes(shape_of(config, adapters), run)
    assert needed <= estimate <= LARGEST_FACTOR * needed, (needed / 2**20, estimate / 2**20)


def test_the_estimate_counts_in_the_blocks_and_chunks_of_the_engine() -> None:
    assert (memory.QUERY_BLOCK, memory.LOGITS_BYTES) == (attention.QUERY_BLOCK, 4 * loss.CHUNK_ELEMENTS)


def test_the_estimate_by_hand() -> None:
    model = ModelShape("llama", 1000, 50, 16, 24, 2, 2, 1, 8, 128)
    run = StepShape(rows=3, length=10)
    # 30 positions; 8 · 16 + 3 · 2 · 8 + 2 · 1 · 8 + 6 · 24 activations of each; four times 3 · 2 · 10² scores.
    layer = 30 * 4 * (128 + 48 + 16 + 144)
    assert step_bytes(model, run) == 20 * 1000 + 2 * layer + max(1.25 * layer + 4 * 4 * 600, 2 * 4 * 30 * 50)
    assert estimate_training_bytes(model, run) == step_bytes(model, run) + 12 * 1000
    # Remat keeps a layer's input alone.
    remat = dataclasses.replace(run, remat=True)
    assert step_bytes(model, run) - step_bytes(model, remat) == 2 * (layer - 30 * 4 * 16)
    # 32 bytes a parameter in all; adapters: 8 for what is frozen.
    adapted = dataclasses.replace(model, adapter_count=100)
    saved = estimate_training_bytes(model, run) - estimate_training_bytes(adapted, run)
    assert saved == 32 * 1000 - 8 * 1000 - 32 * 100
    # A mesh shares out the parameters; rows are those of one device already.
    spread = dataclasses.replace(run, fsdp=4)
    assert estimate_training_bytes(model, run) - estimate_training_bytes(model, spread) == 32 * 1000 * 3 / 4


def test_moments_by_hand() -> None:
    model = ModelShape("llama", 10_000, 50, 16, 24, 2, 2, 1, 8, 128)
    # Two tables of 50 rows of 16, if the head is one of its own.
    found = {kind: moment_bytes(model, kind) for kind in OPTIMIZERS}
    assert found == {
        "adamw": 80_000,
        "adamw_8bit": 3 * (10_000 - 1600) + 8 * 1600,
        "adafactor": 10_000,
        "muon": 4 * 10_000 + 4 * 1600,
    }
    adapted = dataclasses.replace(model, adapter_count=100)
    assert [moment_bytes(adapted, kind) for kind in OPTIMIZERS] == [800, 300, 800, 400]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_estimate_of_moments_holds_what_the_state_has(kind: str) -> None:
    config = config_of()
    coefficients = coefficients_of(Hyperparameters(), 10)

    def start() -> Any:
        return initial_state(Decoder(config, rngs=nnx.Rngs(0)), coefficients, optimizer=kind)[1].optimizer

    stored = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(start)))
    estimate = moment_bytes(shape_of(config), kind)
    assert stored <= estimate + 64
    assert kind == "adafactor" or estimate < 1.7 * stored
