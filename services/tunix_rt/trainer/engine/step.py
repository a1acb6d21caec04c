"""The jitted training step: gradients summed over accumulation, divided by all target tokens, one optimizer update.

A pure function over a pytree; the module graph is split off once, outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer.engine.batches import Batch
from tunix_rt.trainer.engine.loss import LossSums, cross_entropy_sums, zero_sums
from tunix_rt.trainer.engine.optimizer import Coefficients, optimizer_at
from tunix_rt.trainer.engine.schedules import learning_rate_at


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything that a step changes. ``step`` (i32) counts finished optimizer steps."""

    parameters: Any
    optimizer: Any
    step: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepMetrics:
    """Scalars of one step, f32.

    Mean loss and accuracy per target token, gradient norm before clipping, the rate used.
    """

    loss: jax.Array
    token_accuracy: jax.Array
    grad_norm: jax.Array
    learning_rate: jax.Array


# Its state argument is donated: the caller must not use it again.
Step = Callable[[TrainState, Batch, Coefficients], tuple[TrainState, StepMetrics]]


def initial_state(decoder: Decoder, coefficients: Coefficients) -> tuple[Any, TrainState]:
    """Split ``decoder`` into its graph and a fresh `TrainState` at step 0."""
    graph, parameters = nnx.split(decoder, nnx.Param)
    moments = jax.jit(optimizer_at(0.0, coefficients).init)(parameters)
    return graph, TrainState(parameters, moments, jnp.zeros((), jnp.int32))


def build_step(graph: Any, schedule: str, *, remat: bool = False) -> jax.stages.Wrapped:
    """The jitted step over (state, batch, coefficients), to be lowered and compiled; the state is donated.

    ``schedule`` is a kind of `learning_rate_at`. A batch without targets leaves gradients at zero.
    """

    def sums(parameters: Any, part: Batch) -> tuple[jax.Array, LossSums]:
        decoder = nnx.merge(graph, parameters)
        hidden = decoder.hidden(part.tokens, part.positions, part.segment_ids, remat=remat)  # [B, T, H]
        found = cross_entropy_sums(
            hidden.reshape(-1, hidden.shape[-1]),
            jnp.ravel(part.targets),
            jnp.ravel(part.weights),
            decoder.logits,
            decoder.config.vocab_size,
        )
        return found.loss, found

    gradient = jax.grad(sums, has_aux=True)

    def accumulate(parameters: Any, batch: Batch) -> tuple[Any, LossSums]:
        if batch.tokens.shape[0] == 1:
            return gradient(parameters, jax.tree.map(lambda array: array[0], batch))  # type: ignore[no-any-return]

        def add(carry: tuple[Any, LossSums], part: Batch) -> tuple[tuple[Any, LossSums], None]:
            gradients, found = gradient(parameters, part)
            return (jax.tree.map(jnp.add, carry[0], gradients), carry[1] + found), None

        start = (jax.tree.map(jnp.zeros_like, parameters), zero_sums())
        total, _ = jax.lax.scan(add, start, batch)
        return total

    def step(state: TrainState, batch: Batch, c: Coefficients) -> tuple[TrainState, StepMetrics]:
        gradients, found = accumulate(state.parameters, batch)
        tokens = jnp.maximum(found.tokens, 1.0)
        gradients = jax.tree.map(lambda g: g / tokens, gradients)
        rate = learning_rate_at(state.step, schedule, c.learning_rate, c.warmup_steps, c.total_steps)
        updates, moments = optimizer_at(rate, c).update(gradients, state.optimizer, state.parameters)
        parameters = optax.apply_updates(state.parameters, updates)
        metrics = StepMetrics(
            loss=found.loss / tokens,
            token_accuracy=found.correct / tokens,
            grad_norm=optax.tree.norm(gradients),
            learning_rate=rate,
        )
        return TrainState(parameters, moments, state.step + 1), metrics

    return jax.jit(step, donate_argnums=0)
