"""The jitted training step and evaluation step.

A training step sums gradients over the accumulation parts, divides by all target tokens and makes one optimizer update.
Both are pure functions over pytrees. The module graph is split off once, outside, together with the parameters that are
not trained: everything but the adapters for LoRA, nothing for full fine-tuning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from tunix_rt.contract.hyperparameters import ADAMW
from tunix_rt.models.adapters import adapters_of, dropout_root, has_dropout, set_dropout
from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer.engine.data import Batch
from tunix_rt.trainer.engine.loss import LossSums, zero_sums
from tunix_rt.trainer.engine.optimizer import Coefficients, optimizer_at, rate_at
from tunix_rt.trainer.engine.sharding import ONE_DEVICE, Layout


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """What a step updates. ``parameters`` are the trainable ones; ``step`` (i32) counts finished optimizer steps."""

    parameters: Any
    optimizer: Any
    step: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Frozen:
    """What a step only reads; no leaves in full fine-tuning.

    ``parameters`` are not trained. ``dropout_key`` is the root key of all dropout noise; None: no dropout.
    """

    parameters: Any
    dropout_key: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepMetrics:
    """Scalars of one step, f32: loss and accuracy per target token, gradient norm before clipping, learning rate."""

    loss: jax.Array
    token_accuracy: jax.Array
    grad_norm: jax.Array
    learning_rate: jax.Array


# The state argument is donated: the caller must not use it again.
Step = Callable[[TrainState, Frozen, Batch, Coefficients], tuple[TrainState, StepMetrics]]


def initial_state(
    decoder: Decoder,
    coefficients: Coefficients,
    *,
    seed: int = 0,
    layout: Layout = ONE_DEVICE,
    optimizer: str = ADAMW,
) -> tuple[Any, TrainState, Frozen]:
    """Split ``decoder`` into its graph, a new `TrainState` at step 0, and the frozen rest.

    Trainable are the adapters if the decoder has any, else every parameter. ``seed`` is the root of dropout,
    ``optimizer`` the kind whose moments the state has.
    """
    filters = (nnx.LoRAParam, nnx.Param) if adapters_of(decoder) else (nnx.Param, nnx.Nothing())
    parts: Any = nnx.split(decoder, *filters)
    graph, parameters, frozen = parts
    key = dropout_root(seed) if has_dropout(decoder) else None
    # Placed before the moments are created, which take twice the memory.
    parameters = layout.place(parameters)
    moments = jax.jit(lambda start: layout.keep(optimizer_at(0.0, coefficients, optimizer).init(start)))(parameters)
    step = layout.place(jnp.zeros((), jnp.int32))
    return graph, TrainState(parameters, moments, step), layout.place(Frozen(frozen, key))


def build_step(
    graph: Any, schedule: str, *, remat: bool = False, layout: Layout = ONE_DEVICE, optimizer: str = ADAMW
) -> jax.stages.Wrapped:
    """The jitted step over (state, frozen, batch, coefficients), to be lowered and compiled. The state is donated.

    ``schedule`` is a kind of `learning_rate_at`, ``optimizer`` one of `optimizer_at`; ``layout`` is the layout of the
    state. A batch without targets has zero gradients.
    """

    def sums(parameters: Any, frozen: Any, part: Batch, key: jax.Array | None) -> tuple[jax.Array, LossSums]:
        decoder = nnx.merge(graph, parameters, frozen)
        if key is not None:
            set_dropout(decoder, key)
        hidden = decoder.hidden(part.tokens, part.positions, part.segment_ids, remat=remat)  # [B, T, H]
        hidden = layout.keep_rows(hidden)
        found = layout.cross_entropy_sums(hidden, part.targets, part.weights, decoder.logits, decoder.config.vocab_size)
        return found.loss, found

    gradient = jax.grad(sums, has_aux=True)

    def accumulate(parameters: Any, frozen: Any, batch: Batch, key: jax.Array | None) -> tuple[Any, LossSums]:
        parts = batch.tokens.shape[0]
        keys = None if key is None else jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(parts))
        if parts == 1:
            only, key = jax.tree.map(lambda array: array[0], (batch, keys))
            return gradient(parameters, frozen, only, key)  # type: ignore[no-any-return]

        def add(carry: tuple[Any, LossSums], part: tuple[Batch, jax.Array | None]) -> tuple[tuple[Any, LossSums], None]:
            gradients, found = gradient(parameters, frozen, *part)
            return (jax.tree.map(jnp.add, carry[0], gradients), carry[1] + found), None

        start = (jax.tree.map(jnp.zeros_like, parameters), zero_sums())
        total, _ = jax.lax.scan(add, start, (batch, keys))
        return total

    def step(state: TrainState, frozen: Frozen, batch: Batch, c: Coefficients) -> tuple[TrainState, StepMetrics]:
        root = frozen.dropout_key
        key = None if root is None else jax.random.fold_in(root, state.step)
        gradients, found = accumulate(state.parameters, frozen.parameters, batch, key)
        tokens = jnp.maximum(found.tokens, 1.0)
        gradients = layout.keep(jax.tree.map(lambda g: g / tokens, gradients))
        rate = rate_at(state.step, schedule, c)
        updates, moments = optimizer_at(rate, c, optimizer).update(gradients, state.optimizer, state.parameters)
        parameters = optax.apply_updates(state.parameters, updates)
        metrics = StepMetrics(
            loss=found.loss / tokens,
            token_accuracy=found.correct / tokens,
            grad_norm=optax.tree.norm(gradients),
            learning_rate=rate,
        )
        return layout.keep((TrainState(parameters, moments, state.step + 1), metrics))

    return jax.jit(step, donate_argnums=0)


def build_eval_step(graph: Any, layout: Layout = ONE_DEVICE) -> jax.stages.Wrapped:
    """The jitted `LossSums` of a batch [1, B, T] over (parameters, frozen parameters, batch).

    No dropout, and nothing is donated: evaluation does not affect training.
    """

    def sums(parameters: Any, frozen: Any, batch: Batch) -> LossSums:
        decoder = nnx.merge(graph, parameters, frozen)
        part = jax.tree.map(lambda array: array[0], batch)
        hidden = layout.keep_rows(decoder.hidden(part.tokens, part.positions, part.segment_ids))  # [B, T, H]
        return layout.cross_entropy_sums(hidden, part.targets, part.weights, decoder.logits, decoder.config.vocab_size)

    return jax.jit(sums)


@dataclass(frozen=True)
class HeldOutMetrics:
    """Mean loss and accuracy per target token over all held-out examples."""

    loss: float
    token_accuracy: float


class HeldOut:
    """The held-out batches and the compiled evaluation step."""

    def __init__(self, step: Callable[[Any, Any, Batch], LossSums], batches: Sequence[Batch]) -> None:
        self._step, self._batches = step, tuple(batches)

    def measure(self, parameters: Any, frozen: Any) -> HeldOutMetrics:
        """Loss and accuracy per target token over all batches, summed in float64."""
        found = jax.device_get([self._step(parameters, frozen, batch) for batch in self._batches])
        loss, correct, tokens = (
            math.fsum(float(getattr(sums, name)) for sums in found) for name in ("loss", "correct", "tokens")
        )
        return HeldOutMetrics(loss / tokens, correct / tokens)
