"""LoRA in the training step: what is trained, what is saved, and that a resumed run is the same run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.contract.hyperparameters import Hyperparameters, Lora, check_hyperparameters
from tunix_rt.errors import InvalidInput, Violations
from tunix_rt.models.adapters import dropout_root, factors_of
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.kept_settings import NOTHING_KEPT
from tunix_rt.models.loading import LanguageModel, load_on_host
from tunix_rt.models.parameters import parameters_of
from tunix_rt.models.presets import train_tokenizer
from tunix_rt.models.references import ModelSource, resolve
from tunix_rt.trainer.engine.data import Batch, Example, lay_out
from tunix_rt.trainer.engine.lora import adapt, export_adapters, places_of
from tunix_rt.trainer.engine.optimizer import coefficients_of
from tunix_rt.trainer.engine.orbax_checkpoints import Position, read_state, write_state
from tunix_rt.trainer.engine.step import Frozen, StepMetrics, TrainState, build_step, initial_state
from tunix_rt.trainer.job import ArtifactRef, Job

SEED = 3
LORA = Lora(2, 4.0, 0.3, ("q_proj", "down_proj"))
COEFFICIENTS = coefficients_of(Hyperparameters(learning_rate=0.01), 6)
Start = tuple[Any, TrainState, Frozen]


def start(config: ModelConfig, lora: Lora | None = LORA) -> Start:
    decoder = Decoder(config, rngs=nnx.Rngs(7))
    if lora is not None:
        adapt(decoder, lora, seed=SEED)
    return initial_state(decoder, COEFFICIENTS, seed=SEED)


def batch_of(examples: list[Example]) -> Batch:
    return lay_out([[example] for example in examples], accumulation=2, length=16)


@pytest.fixture(scope="module")
def step(config: ModelConfig) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """The step of two parts with two rows each, compiled once for all tests."""
    graph, state, frozen = start(config)
    like = batch_of([Example(np.arange(8, dtype=np.int32), np.arange(8) >= 3)] * 4)
    return build_step(graph, "cosine").lower(state, frozen, like, COEFFICIENTS).compile()


def test_only_adapters_are_trained_and_saved(config: ModelConfig, step: Any, examples: list[Example]) -> None:
    graph, state, frozen = start(config)
    before = parameters_of(Decoder(config, rngs=nnx.Rngs(7)))
    names = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(state.parameters)[0]}
    assert len(names) == 4
    assert all("adapter" in name for name in names)
    # Two layers of q (16 -> 16) and down (24 -> 16), rank 2; AdamW keeps two moments and a count.
    scalars = 2 * 2 * ((16 + 16) + (24 + 16))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 3 * scalars + 2
    first = jax.tree.map(np.array, state.parameters)
    state, metrics = step(state, frozen, batch_of(examples[:4]), COEFFICIENTS)
    assert float(metrics.grad_norm) > 0
    after = nnx.merge(graph, state.parameters, frozen.parameters)
    for name, array in parameters_of(after).items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    # B is zero at the start, so that A has no gradient in the first step.
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), first, state.parameters)
    assert sorted(jax.tree.leaves(changed)) == [False, False, True, True]


def test_nothing_is_frozen_in_full_fine_tuning(config: ModelConfig) -> None:
    _, state, frozen = start(config, None)
    assert jax.tree.leaves(frozen) == []
    assert sum(leaf.size for leaf in jax.tree.leaves(state.parameters)) == config.parameter_count


def test_a_resumed_run_ends_with_the_same_bits_dropout_and_accumulation_included(
    config: ModelConfig, step: Any, examples: list[Example], tmp_path: Path
) -> None:
    batches = [batch_of(examples[at : at + 4]) for at in (0, 4, 8)] * 2
    _, state, frozen = start(config)
    for number, batch in enumerate(batches):
        if number == 3:
            write_state(tmp_path, state, Position({}, SEED))
        state, _ = step(state, frozen, batch, COEFFICIENTS)
    _, fresh, frozen = start(config)
    resumed, _ = read_state(tmp_path, fresh)
    for batch in batches[3:]:
        resumed, _ = step(resumed, frozen, batch, COEFFICIENTS)
    assert int(resumed.step) == 6
    jax.tree.map(np.testing.assert_array_equal, resumed, state)


def test_noise_depends_on_seed_step_and_part(config: ModelConfig, step: Any, examples: list[Example]) -> None:
    _, state, frozen = start(config)
    # Where B is zero noise cannot be seen.
    host = jax.tree.map(lambda leaf: np.full_like(leaf, 0.1), state.parameters)

    def loss(examples: list[Example], at: int = 0, frozen: Frozen = frozen) -> float:
        parameters, optimizer = jax.tree.map(jnp.array, (host, state.optimizer))
        given = TrainState(parameters, optimizer, jnp.asarray(at, jnp.int32))
        return float(step(given, frozen, batch_of(examples), COEFFICIENTS)[1].loss)

    here, there = examples[:2], examples[2:4]
    first = loss([*here, *there])
    assert loss([*here, *there]) == first
    assert abs(loss([*here, *there], at=1) - first) > 1e-5
    assert abs(loss([*here, *there], frozen=replace(frozen, dropout_key=dropout_root(4))) - first) > 1e-5
    # With one noise for both parts their order would not matter.
    assert abs(loss([*there, *here]) - first) > 1e-5


def test_the_base_of_an_adapter_on_a_random_start_is_stored(config: ModelConfig, tmp_path: Path) -> None:
    config = replace(config, vocab_size=272)
    source = ModelSource("preset://tiny", "preset", f"sha256:{'1' * 64}", preset="tiny")
    model = LanguageModel(config, Decoder(config, rngs=nnx.Rngs(7)), train_tokenizer(["one two"], 270), source)
    start = parameters_of(model.decoder)
    adapt(model.decoder, LORA, seed=SEED)
    job = Job(
        run_id="run-1",
        attempt=1,
        spec_digest="sha256:0",
        base_model="preset://tiny",
        dataset_id="ds-1",
        dataset=ArtifactRef("file:///d", "sha256:1"),
        hyperparameters=Hyperparameters(lora=LORA),
        artifacts_uri=(tmp_path / "store").as_uri(),
        work_dir=str(tmp_path),
        cache_dir=str(tmp_path / "cache"),
    )
    store = ArtifactStore(job.artifacts_uri)
    export_adapters(model.decoder, LORA, config, model, job, store, tmp_path / "adapter", NOTHING_KEPT)
    found = resolve((tmp_path / "adapter").as_uri(), cache_dir=tmp_path, artifacts=store).base
    assert found is not None
    for name, array in load_on_host(found).parameters.items():
        np.testing.assert_array_equal(array, start[name], err_msg=name)


def test_a_module_that_the_model_does_not_have_is_named_by_its_field(config: ModelConfig) -> None:
    with pytest.raises(InvalidInput) as caught:
        adapt(Decoder(config, rngs=nnx.Rngs(7)), Lora(2, target_modules=("q_proj", "c_attn")), seed=0)
    assert [violation.field for violation in caught.value.violations] == ["hyperparameters.lora.target_modules[1]"]


def test_settings_left_open_are_twice_the_rank_and_every_linear_layer(config: ModelConfig) -> None:
    decoder = Decoder(config, rngs=nnx.Rngs(7))
    settings = adapt(decoder, Lora(2), seed=0)
    assert (settings.alpha, settings.scaling, settings.dropout) == (4.0, 2.0, 0.0)
    assert len(nnx.to_flat_state(nnx.state(decoder, nnx.LoRAParam))) == 7 * 2


@pytest.mark.parametrize(
    ("lora", "fields"),
    [
        (Lora(0), ["lora.rank"]),
        (Lora(1025, alpha=-1.0, dropout=1.0), ["lora.rank", "lora.alpha", "lora.dropout"]),
        (Lora(8, alpha=float("nan")), ["lora.alpha"]),
        (Lora(1024, 0.5, 0.99), []),
    ],
)
def test_lora_settings_out_of_range_are_named(lora: Lora, fields: list[str]) -> None:
    found = Violations()
    check_hyperparameters(Hyperparameters(lora=lora), found)
    assert [violation.field for violation in found] == fields


PATTERNS = Lora(
    4,
    6.0,
    target_modules=("q_proj", "down_proj"),
    use_rslora=True,
    rank_pattern=("q_proj=2", "layers.1.mlp.down_proj=5"),
    alpha_pattern=("down_proj=8.5",),
    layers_to_transform=(1,),
)


def test_patterns_give_each_layer_its_rank_and_scaling(config: ModelConfig) -> None:
    places = places_of(config, PATTERNS)
    assert {path: place.ranks for path, place in places.items()} == {
        "blocks.attention.q": (0, 2),
        "blocks.mlp.down": (0, 5),
    }
    assert places["blocks.attention.q"].scalings == (0.0, pytest.approx(6 / 2**0.5))
    assert places["blocks.mlp.down"].scalings == (0.0, pytest.approx(8.5 / 5**0.5))


def test_of_several_patterns_the_first_in_the_alphabet_counts(config: ModelConfig) -> None:
    lora = Lora(4, target_modules=("q_proj",), rank_pattern=("q_proj=2", "layers.1.self_attn.q_proj=3"))
    assert places_of(config, lora)["blocks.attention.q"].ranks == (2, 3)


def test_layers_and_modules_that_the_model_does_not_have_are_named_by_their_field(config: ModelConfig) -> None:
    with pytest.raises(InvalidInput) as caught:
        places_of(config, Lora(2, layers_to_transform=(0, 2, 7)))
    fields = [violation.field for violation in caught.value.violations]
    assert fields == [f"hyperparameters.lora.layers_to_transform[{index}]" for index in (1, 2)]
    lora = Lora(2, target_modules=("q_proj",), rank_pattern=("q_proj=3", "up_proj=3"), alpha_pattern=("proj=1",))
    with pytest.raises(InvalidInput) as caught:
        places_of(config, lora)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["hyperparameters.lora.rank_pattern[1]", "hyperparameters.lora.alpha_pattern[0]"]


def test_layers_of_a_smaller_rank_and_without_adapter_stay_as_they_are(
    config: ModelConfig, examples: list[Example]
) -> None:
    lora = replace(PATTERNS, rank_pattern=("layers.0.self_attn.q_proj=2",), layers_to_transform=())
    graph, state, frozen = start(config, lora)
    step = build_step(graph, "constant")
    for at in (0, 4, 8):
        state, _ = step(state, frozen, batch_of(examples[at : at + 4]), COEFFICIENTS)
    decoder = nnx.merge(graph, state.parameters, frozen.parameters)
    factors = factors_of(decoder)["blocks.attention.q"]
    assert factors.a.shape[-1] == 4
    assert not factors.a[0, :, 2:].any()
    assert not factors.b[0, 2:].any()
    assert factors.b[0, :2].any()
    assert factors.b[1].any()
    np.testing.assert_allclose(factors.scaling, [6 / 2**0.5, 6 / 2])
