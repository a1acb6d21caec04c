"""Learning-rate schedules in closed form: warm-up, then constant, linear or cosine decay."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Scalar = float | jax.Array


def learning_rate_at(count: Scalar, kind: str, peak: Scalar, warmup_steps: Scalar, total_steps: Scalar) -> jax.Array:
    """The learning rate of step ``count`` (from 0) as a float32 scalar.

    Warm-up is linear and reaches ``peak`` at its last step, so that no step is wasted at rate 0. Decay runs from
    ``peak`` at the first step after warm-up towards 0 at ``total_steps``, which is one past the last step: the last
    step still learns. ``kind`` is ``constant``, ``linear`` or ``cosine`` (Loshchilov & Hutter 2017, arXiv 1608.03983,
    without restarts). All but ``kind`` may be traced.
    """
    step = jnp.asarray(count, jnp.float32)
    warm = (step + 1) / jnp.maximum(1.0, warmup_steps)
    gone = jnp.clip((step - warmup_steps) / jnp.maximum(1.0, total_steps - warmup_steps), 0.0, 1.0)
    if kind == "constant":
        cooled = jnp.ones_like(step)
    elif kind == "linear":
        cooled = 1 - gone
    elif kind == "cosine":
        cooled = 0.5 * (1 + jnp.cos(jnp.pi * gone))
    else:
        raise ValueError(f"unknown schedule {kind!r}")
    return peak * jnp.where(step < warmup_steps, warm, cooled)
