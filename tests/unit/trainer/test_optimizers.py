"""Each optimizer is its paper's by hand or beside a peer, lowers the loss of a decoder, and resumes bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tunix_rt.contract.hyperparameters import OPTIMIZERS, Hyperparameters
from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer.engine.data import Batch
from tunix_rt.trainer.engine.optimizer import coefficients_of, optimizer_at
from tunix_rt.trainer.engine.optimizers.adafactor import scale_by_adafactor
from tunix_rt.trainer.engine.optimizers.eight_bit_adam import BLOCK, codes, dequantize, quantize
from tunix_rt.trainer.engine.optimizers.muon import orthogonalized, scale_by_muon
from tunix_rt.trainer.engine.orbax_checkpoints import Position, read_state, write_state
from tunix_rt.trainer.engine.step import build_step, initial_state

Tree = dict[str, Any]


def jitted(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """Operation by operation it would compile hundreds of programs."""
    return optax.GradientTransformation(jax.jit(transformation.init), jax.jit(transformation.update))


STEPS = 6


def tree(seed: int, scale: float = 1.0) -> Tree:
    draw = np.random.default_rng(seed)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(scale * draw.normal(size=shape), jnp.float32)

    return {
        "embedding": normal(6, 4),
        "blocks": {"up": {"kernel": normal(2, 4, 300)}, "norm": {"scale": normal(2, 4)}},
        "norm": {"scale": normal(4)},
    }


def test_adafactor_is_the_algorithm_of_the_paper_by_hand() -> None:
    transformation = jitted(scale_by_adafactor())
    parameters = {"kernel": jnp.zeros((2, 3)), "scale": jnp.zeros(2)}
    state = transformation.init(parameters)
    row, column, second = np.zeros(2), np.zeros(3), np.zeros(2)
    for time in range(1, 4):
        g = np.random.default_rng(time).normal(size=(2, 3)).astype(np.float32)
        v = np.random.default_rng(-time + 9).normal(size=2).astype(np.float32)
        steps, state = transformation.update({"kernel": jnp.asarray(g), "scale": jnp.asarray(v)}, state)
        kept = 1 - time**-0.8
        row = kept * row + (1 - kept) * np.mean(g**2 + 1e-30, axis=1)
        column = kept * column + (1 - kept) * np.mean(g**2 + 1e-30, axis=0)
        expected = g / np.sqrt(np.outer(row, column) / np.mean(row))
        expected /= max(1.0, float(np.sqrt(np.mean(expected**2))))
        np.testing.assert_allclose(steps["kernel"], expected, rtol=1e-5)
        second = kept * second + (1 - kept) * (v**2 + 1e-30)
        plain = v / np.sqrt(second)
        np.testing.assert_allclose(steps["scale"], plain / max(1.0, float(np.sqrt(np.mean(plain**2)))), rtol=1e-5)


def test_adafactor_treats_each_layer_of_a_stack_as_a_matrix() -> None:
    transformation = jitted(scale_by_adafactor())
    stack = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3)), jnp.float32)
    together, _ = transformation.update({"kernel": stack}, transformation.init({"kernel": stack}))
    for layer in range(2):
        own = {"kernel": stack[layer]}
        alone, _ = transformation.update(own, transformation.init(own))
        np.testing.assert_allclose(together["kernel"][layer], alone["kernel"], rtol=1e-6)


@pytest.mark.parametrize("signed", [True, False])
def test_codes_are_spaced_evenly_in_each_of_seven_decades(signed: bool) -> None:
    values = codes(signed=signed)
    assert len(values) == len(set(values)) == 256
    assert values[-1] == 1 and 0 in values
    assert values[0] == (pytest.approx(-0.99296875) if signed else 0)
    highest = [value for value in values if 0.1 < value < 1]
    assert len(highest) == (64 if signed else 128)
    np.testing.assert_allclose(np.diff(highest), 0.9 / len(highest), rtol=1e-4)
    # The next decade has half as many.
    assert sum(0.01 < value < 0.1 for value in values) == len(highest) / 2


def test_what_is_quantised_comes_back_within_half_a_step_of_its_block() -> None:
    array = jnp.asarray(np.random.default_rng(1).normal(size=(3, 200)), jnp.float32)
    table = codes(signed=True)
    stored, scale = jax.jit(lambda values: quantize(values, table))(array)
    assert (stored.dtype, stored.shape, scale.shape) == (jnp.uint8, (3, 200), (-(-600 // BLOCK),))
    restore = jax.jit(lambda stored, scale: dequantize(stored, scale, table))
    again = np.asarray(restore(stored, scale)).reshape(-1)
    for block in range(3):
        values = np.asarray(array).reshape(-1)[block * BLOCK : (block + 1) * BLOCK]
        largest = np.abs(values).max()
        assert scale[block] == largest
        nearest = np.abs(values[:, None] / largest - table).min(axis=1)
        found = np.abs(values - again[block * BLOCK : (block + 1) * BLOCK]) / largest
        np.testing.assert_allclose(found, nearest, atol=1e-6)


def test_adam_in_8_bits_keeps_to_adam_and_never_divides_by_epsilon_alone() -> None:
    coefficients = coefficients_of(Hyperparameters(max_grad_norm=1000.0), 10)
    exact, small = (jitted(optimizer_at(1.0, coefficients, kind)) for kind in ("adamw", "adamw_8bit"))
    parameters = tree(0)
    states = [exact.init(parameters), small.init(parameters)]
    moments = states[1][1]
    assert moments.mean["blocks"]["up"]["kernel"].dtype == jnp.uint8
    assert moments.mean["embedding"].dtype == moments.root["norm"]["scale"].dtype == jnp.float32
    for time in range(8):
        gradients = tree(time + 1)
        # Within one block: values that differ by eight decades.
        kernel = gradients["blocks"]["up"]["kernel"]
        gradients["blocks"]["up"]["kernel"] = kernel.at[0, 0, :8].multiply(1e-8)
        ours, states[1] = small.update(gradients, states[1], parameters)
        theirs, states[0] = exact.update(gradients, states[0], parameters)
    np.testing.assert_allclose(ours["embedding"], theirs["embedding"], rtol=1e-5)
    close = np.abs(np.asarray(ours["blocks"]["up"]["kernel"] - theirs["blocks"]["up"]["kernel"]))
    assert np.median(close) < 0.05
    assert np.abs(np.asarray(ours["blocks"]["up"]["kernel"])).max() < 4


def test_muon_makes_singular_values_equal_and_has_the_size_of_adam() -> None:
    matrices = jnp.asarray(np.random.default_rng(2).normal(size=(2, 12, 5)), jnp.float32)
    found = np.asarray(jax.jit(orthogonalized)(matrices))
    for before, after in zip(np.asarray(matrices), found, strict=True):
        left, values, right = np.linalg.svd(before, full_matrices=False)
        assert values.max() / values.min() > 1.5
        assert np.all(np.abs(np.linalg.svd(after, compute_uv=False) - 1) < 0.35)
        # The singular vectors stay.
        inner = left.T @ after @ right.T
        np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-3)
    transformation = jitted(scale_by_muon(b1=0.9, b2=0.999, eps=1e-8))
    parameters = tree(0)
    steps, state = transformation.update(tree(1), transformation.init(parameters))
    size = float(jnp.sqrt(jnp.mean(jnp.square(steps["blocks"]["up"]["kernel"]))))
    assert 0.7 * 0.2 < size < 1.3 * 0.2
    # Adam's first step is the sign of the gradient.
    np.testing.assert_allclose(np.abs(np.asarray(steps["embedding"])), 1, rtol=1e-3)
    assert state.second["blocks"]["up"]["kernel"].shape == (1,)


def batch_of(seed: int) -> Batch:
    tokens = jnp.asarray(np.random.default_rng(seed).integers(1, 8, (1, 2, 8)), jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(8, dtype=jnp.int32), tokens.shape)
    weights = jnp.ones(tokens.shape, jnp.float32)
    return Batch(tokens, positions, jnp.ones_like(tokens), jnp.roll(tokens, -1, axis=-1), weights)


@pytest.mark.parametrize("kind", OPTIMIZERS[1:])
def test_every_optimizer_lowers_the_loss_and_resumes_bit_for_bit(
    kind: str, decoder: Decoder, compile_quickly: Any, tmp_path: Path
) -> None:
    hp = Hyperparameters(learning_rate=0.05, weight_decay=0.01, optimizer=kind)
    coefficients = coefficients_of(hp, STEPS)
    graph, state, frozen = initial_state(decoder, coefficients, optimizer=kind)
    batch = batch_of(0)
    step = compile_quickly(build_step(graph, "constant", optimizer=kind), state, frozen, batch, coefficients)
    losses = []
    for number in range(STEPS):
        if number == STEPS // 2:
            write_state(tmp_path, state, Position({}, 0))
        state, metrics = step(state, frozen, batch, coefficients)
        losses.append(float(metrics.loss))
    assert losses[-1] < 0.9 * losses[0], losses
    again, _ = read_state(tmp_path, state)
    for _ in range(STEPS - STEPS // 2):
        again, _ = step(again, frozen, batch, coefficients)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        assert before.dtype == after.dtype
        assert np.array_equal(before, after)
