from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import psutil
import pytest
from flax import nnx

from tunix_rt.contract.hyperparameters import Lora
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer.engine.data import Batch, Example, lay_out
from tunix_rt.trainer.engine.flops import StepFlops, count_step_flops, layer_windows
from tunix_rt.trainer.engine.hardware import Peak, machine_peak, peak_memory_bytes
from tunix_rt.trainer.engine.lora import adapt


def example(length: int, targets: int) -> Example:
    return Example(np.arange(length, dtype=np.int32), np.arange(length) >= length - targets)


@pytest.fixture
def packed() -> Batch:
    """One row of examples of 5 and 3 tokens with 2 and 1 targets, and 4 positions of padding."""
    return lay_out([[example(5, 2), example(3, 1)]], accumulation=1, length=12)


def pairs_by_definition(lengths: list[int], window: int) -> int:
    return sum(abs(i - j) < window for n in lengths for i in range(n) for j in range(n))


@pytest.mark.parametrize("window", [1, 2, 4, 100])
def test_pairs_are_those_of_the_same_example_within_the_window(packed: Batch, window: int) -> None:
    assert packed.token_pairs(window) == pairs_by_definition([5, 3], window)
    assert packed.token_pairs() == 5 * 5 + 3 * 3


def split(decoder: Decoder) -> tuple[object, object]:
    _, trained, frozen = nnx.split(decoder, nnx.LoRAParam, nnx.Param)
    return (trained, frozen) if jax.tree.leaves(trained) else (frozen, trained)


def test_the_operations_of_a_step_by_hand(decoder: Decoder, packed: Batch) -> None:
    # Two layers of q and o 16 × 16, k and v 16 × 8, gate, up and down 16 × 24; a table of 32 × 16; 2 heads of 8.
    weights = 2 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24)
    found = count_step_flops(decoder.config, *split(decoder))
    assert found == StepFlops(6 * weights, 6 * 32 * 16, ((None, 2),), 12 * 2 * 8)
    assert found.of(packed) == 6 * weights * 8 + 6 * 512 * 3 + 2 * 192 * 34


def test_frozen_weights_need_no_gradient_of_their_own(decoder: Decoder) -> None:
    weights = 2 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24)
    adapt(decoder, Lora(2, target_modules=("q_proj", "down_proj")), seed=0)
    adapters = 2 * 2 * ((16 + 16) + (24 + 16))
    found = count_step_flops(decoder.config, *split(decoder))
    assert (found.per_token, found.per_target) == (4 * weights + 6 * adapters, 4 * 32 * 16)


def test_a_token_costs_the_experts_that_it_goes_through() -> None:
    config = ModelConfig(
        family="qwen3_moe",
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        num_experts=5,
        num_experts_per_tok=2,
        moe_intermediate_size=12,
        dense_layers=(0,),
    )
    # Three layers of attention, one of an MLP, two of a router of 16 × 5 and experts of three times 16 × 12.
    weights = 3 * (2 * 16 * 16 + 2 * 16 * 8) + 3 * 16 * 24 + 2 * (16 * 5 + 2 * 3 * 16 * 12)
    assert count_step_flops(config, *split(Decoder(config, rngs=nnx.Rngs(0)))).per_token == 6 * weights


def test_sliding_layers_attend_to_their_window(packed: Batch) -> None:
    config = ModelConfig(
        family="gemma3",
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        layer_types=("sliding_attention", "full_attention", "sliding_attention"),
        sliding_window=2,
    )
    assert layer_windows(config) == [2, None, 2]
    found = StepFlops(0, 0, ((2, 2), (None, 1)), 1)
    assert found.of(packed) == 2 * pairs_by_definition([5, 3], 2) + 34


def test_the_highest_peak_that_a_machine_has_shown_counts(tmp_path: Path) -> None:
    cache = tmp_path / "peaks" / "machine.json"
    measured = machine_peak(1, cache)
    assert measured.source == "measured now"
    # Faster than a person, slower than any machine.
    assert 1e7 < measured.flops < 1e16
    (device,) = json.loads(cache.read_text())
    cache.write_text(json.dumps({device: 1e17}))
    # Simulated devices of a CPU are one machine.
    assert machine_peak(4, cache) == Peak(1e17, "measured on this machine before")
    cache.write_text('{"torn')
    assert machine_peak(1, cache).source == "measured now"


def test_peak_memory_is_that_of_the_process() -> None:
    before = peak_memory_bytes()
    assert before >= 0.9 * psutil.Process().memory_info().rss
    held = np.ones(before // 8 + 2**20)
    assert peak_memory_bytes() >= held.nbytes
