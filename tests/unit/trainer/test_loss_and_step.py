from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tunix_rt.contract.hyperparameters import Hyperparameters
from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer.engine.data import Batch, Example, lay_out
from tunix_rt.trainer.engine.loss import cross_entropy_sums
from tunix_rt.trainer.engine.optimizer import coefficients_of
from tunix_rt.trainer.engine.step import StepMetrics, TrainState, build_step, initial_state


def project(table: jax.Array) -> Any:
    return lambda hidden: hidden @ table.T


def test_the_loss_of_two_tokens_by_hand() -> None:
    # Logits are the activations themselves: p = (3/4, 1/4) and (1/2, 1/2); the third position does not count.
    hidden = jnp.log(jnp.asarray([[3.0, 1.0], [1.0, 1.0], [9.0, 1.0]]))
    sums = cross_entropy_sums(hidden, jnp.asarray([0, 1, 1]), jnp.asarray([1.0, 1.0, 0.0]), lambda x: x, 2)
    assert float(sums.loss) == pytest.approx(-np.log(0.75) - np.log(0.5), rel=1e-6)
    assert float(sums.tokens) == 2
    # Of equal logits the first wins, so the second token is a miss.
    assert float(sums.correct) == 1


@pytest.mark.parametrize("chunk_elements", [32 * 4, 32 * 7, 32 * 20])
def test_chunks_change_neither_loss_nor_gradient(chunk_elements: int, compile_quickly: Any) -> None:
    source = np.random.default_rng(0)
    hidden = jnp.asarray(source.standard_normal((23, 8)), jnp.float32)
    table = jnp.asarray(source.standard_normal((32, 8)), jnp.float32)
    targets = jnp.asarray(source.integers(0, 32, 23), jnp.int32)
    weights = jnp.asarray(source.random(23) < 0.5, jnp.float32)

    def loss(hidden: jax.Array, table: jax.Array, elements: int) -> jax.Array:
        return cross_entropy_sums(hidden, targets, weights, project(table), 32, chunk_elements=elements).loss

    def chunked(elements: int) -> Any:
        of_both = jax.value_and_grad(lambda h, t: loss(h, t, elements), argnums=(0, 1))
        return compile_quickly(of_both, hidden, table)(hidden, table)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), chunked(10**9), chunked(chunk_elements)
    )


def test_a_batch_without_targets_has_no_loss_and_no_gradient(compile_quickly: Any) -> None:
    hidden, table = jnp.ones((6, 4)), jnp.ones((8, 4))
    targets, weights = jnp.zeros(6, jnp.int32), jnp.zeros(6)

    def loss(table: jax.Array) -> jax.Array:
        return cross_entropy_sums(hidden, targets, weights, project(table), 8, chunk_elements=16).loss

    value, gradient = compile_quickly(jax.value_and_grad(loss), table)(table)
    assert float(value) == 0.0
    assert not np.any(gradient)


OneStep = Callable[..., tuple[TrainState, StepMetrics]]


@pytest.fixture(scope="module")
def programs() -> dict[tuple[Any, ...], Any]:
    """Compiled steps by what distinguishes them."""
    return {}


@pytest.fixture
def one_step(decoder: Decoder, programs: dict[tuple[Any, ...], Any], compile_quickly: Any) -> OneStep:
    """``one_step(batch, **hyperparameters)`` from the same parameters each time."""
    parameters = jax.device_get(nnx.state(decoder, nnx.Param))

    def step(batch: Batch, **changes: Any) -> tuple[TrainState, StepMetrics]:
        hp = Hyperparameters(learning_rate=0.01, weight_decay=0.1, max_grad_norm=0.5, **changes)
        coefficients = coefficients_of(hp, 10)
        # The state is donated: every step has its own.
        fresh = nnx.merge(nnx.graphdef(decoder), jax.tree.map(jnp.array, parameters))
        graph, state, frozen = initial_state(fresh, coefficients)
        key = (batch.tokens.shape, hp.gradient_checkpointing)
        if key not in programs:
            built = build_step(graph, "constant", remat=hp.gradient_checkpointing)
            programs[key] = compile_quickly(built, state, frozen, batch, coefficients)
        found: tuple[TrainState, StepMetrics] = programs[key](state, frozen, batch, coefficients)
        return found

    return step


def assert_same(a: tuple[TrainState, StepMetrics], b: tuple[TrainState, StepMetrics], *, rtol: float) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6), vars(a[1]), vars(b[1]))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=2e-5), a[0].parameters, b[0].parameters)


def test_accumulation_is_one_big_batch_however_uneven_the_parts(one_step: OneStep, examples: list[Example]) -> None:
    # Parts of different token counts: a mean of means would differ by far more than the tolerance.
    rows = [[example] for example in sorted(examples, key=lambda example: example.length)]
    big = one_step(lay_out(rows, accumulation=1, length=16))
    parts = one_step(lay_out(rows, accumulation=4, length=16))
    assert_same(big, parts, rtol=1e-4)


def test_packed_and_unpacked_rows_of_the_same_examples_learn_the_same(
    one_step: OneStep, examples: list[Example]
) -> None:
    apart = one_step(lay_out([[example] for example in examples], accumulation=1, length=16))
    packed = one_step(lay_out([list(examples[at : at + 3]) for at in range(0, 12, 3)], accumulation=1, length=32))
    assert_same(apart, packed, rtol=1e-4)
    assert float(apart[1].loss) == pytest.approx(float(packed[1].loss), abs=1e-5)


def test_gradient_checkpointing_changes_nothing_but_memory(one_step: OneStep, examples: list[Example]) -> None:
    batch = lay_out([[example] for example in examples], accumulation=1, length=16)
    assert_same(one_step(batch), one_step(batch, gradient_checkpointing=True), rtol=1e-5)


def test_the_reported_loss_is_the_mean_over_target_tokens_of_the_whole_batch(
    decoder: Decoder, one_step: OneStep, examples: list[Example], compile_quickly: Any
) -> None:
    batch = lay_out([[example] for example in examples], accumulation=1, length=16)
    _, metrics = one_step(batch)
    inputs = [batch.tokens[0], batch.positions[0], batch.segment_ids[0]]
    logits = compile_quickly(decoder, *inputs)(*inputs)
    log_p = np.asarray(jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1), np.float64)
    losses = [
        -log_p[row, at - 1, example.tokens[at]]
        for row, example in enumerate(examples)
        for at in range(1, example.length)
        if example.is_target[at]
    ]
    assert len(losses) == int(batch.weights.sum())
    assert float(metrics.loss) == pytest.approx(float(np.mean(losses)), rel=1e-5)
