"""The optimizer of a run: learning-rate schedule, global-norm clipping, decoupled decay on matrices only.

All numbers are arguments of the compiled step, not constants in it: runs that differ only in them share one program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tunix_rt.contract.hyperparameters import (
    ADAFACTOR,
    ADAMW,
    ADAMW_8BIT,
    MUON,
    WARMUP_STABLE_DECAY,
    Hyperparameters,
    decay_steps_of,
    warmup_steps_of,
)
from tunix_rt.models.parameters import names_on
from tunix_rt.trainer.engine.optimizers.adafactor import scale_by_adafactor
from tunix_rt.trainer.engine.optimizers.eight_bit_adam import scale_by_adam_8bit
from tunix_rt.trainer.engine.optimizers.leaves import is_vector
from tunix_rt.trainer.engine.optimizers.muon import scale_by_muon

Scalar = float | jax.Array


def learning_rate_at(
    count: Scalar,
    kind: str,
    peak: Scalar,
    warmup_steps: Scalar,
    total_steps: Scalar,
    *,
    min_lr_ratio: Scalar = 0.0,
    decay_steps: Scalar = 0.0,
) -> jax.Array:
    """The learning rate of step ``count`` (from 0) as a float32 scalar.

    Warm-up is linear and reaches ``peak`` at its last step, so no step has rate 0. Decay goes from ``peak`` at the
    first step after warm-up to 0 at ``total_steps``, one past the last step, so the last step still learns. ``kind`` is
    ``constant``, ``linear`` or ``cosine`` (Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts);
    ``cosine_with_min_lr`` falls to ``min_lr_ratio`` of the peak; ``warmup_stable_decay`` (Hu et al. 2024, arXiv
    2404.06395) rises from there, stays, and falls back in its last ``decay_steps`` by a cosine. Everything except
    ``kind`` may be traced.
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
    elif kind == "cosine_with_min_lr":
        cooled = min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + jnp.cos(jnp.pi * gone))
    elif kind == WARMUP_STABLE_DECAY:
        late = jnp.clip((step - (total_steps - decay_steps)) / jnp.maximum(1.0, decay_steps), 0.0, 1.0)
        cooled = min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + jnp.cos(jnp.pi * late))
        warm = min_lr_ratio + (1 - min_lr_ratio) * warm
    else:
        raise ValueError(f"unknown schedule {kind!r}")
    return peak * jnp.where(step < warmup_steps, warm, cooled)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Coefficients:
    """The numbers of schedule and optimizer, f32 scalars, named like the hyperparameters."""

    learning_rate: Scalar
    warmup_steps: Scalar
    total_steps: Scalar
    min_lr_ratio: Scalar
    decay_steps: Scalar
    weight_decay: Scalar
    max_grad_norm: Scalar
    adam_beta1: Scalar
    adam_beta2: Scalar
    adam_epsilon: Scalar


def coefficients_of(hp: Hyperparameters, total_steps: int) -> Coefficients:
    """The coefficients of a run of ``total_steps``."""

    def scalar(value: float) -> Any:
        return np.float32(value)

    return Coefficients(
        learning_rate=scalar(hp.learning_rate),
        warmup_steps=scalar(warmup_steps_of(hp, total_steps)),
        total_steps=scalar(total_steps),
        min_lr_ratio=scalar(hp.min_lr_ratio),
        decay_steps=scalar(decay_steps_of(hp, total_steps)),
        weight_decay=scalar(hp.weight_decay),
        max_grad_norm=scalar(hp.max_grad_norm),
        adam_beta1=scalar(hp.adam_beta1),
        adam_beta2=scalar(hp.adam_beta2),
        adam_epsilon=scalar(hp.adam_epsilon),
    )


def rate_at(count: Scalar, kind: str, c: Coefficients) -> jax.Array:
    """`learning_rate_at` with the numbers of ``c``."""
    return learning_rate_at(
        count,
        kind,
        c.learning_rate,
        c.warmup_steps,
        c.total_steps,
        min_lr_ratio=c.min_lr_ratio,
        decay_steps=c.decay_steps,
    )


def optimizer_at(rate: Scalar, c: Coefficients, kind: str = ADAMW) -> optax.GradientTransformation:
    """The optimizer ``kind`` at learning rate ``rate`` behind a global-norm clip, with decoupled weight decay.

    ``adamw`` is that of Loshchilov & Hutter 2019 (arXiv 1711.05101); the others are in ``engine/optimizers``. The
    structure of the state depends on ``kind`` alone.
    """
    return optax.chain(
        optax.clip_by_global_norm(c.max_grad_norm),
        _KINDS[kind](c),
        optax.add_decayed_weights(c.weight_decay, mask=decay_mask),
        optax.scale_by_learning_rate(rate),
    )


_KINDS: Mapping[str, Callable[[Coefficients], optax.GradientTransformation]] = MappingProxyType(
    {
        ADAMW: lambda c: optax.scale_by_adam(b1=c.adam_beta1, b2=c.adam_beta2, eps=c.adam_epsilon),
        ADAMW_8BIT: lambda c: scale_by_adam_8bit(b1=c.adam_beta1, b2=c.adam_beta2, eps=c.adam_epsilon),
        ADAFACTOR: lambda c: scale_by_adafactor(),
        MUON: lambda c: scale_by_muon(b1=c.adam_beta1, b2=c.adam_beta2, eps=c.adam_epsilon),
    }
)


def decay_mask(parameters: Any) -> Any:
    """True for every leaf with weight decay: all except norm scales and biases.

    Decided by the leaf's name, not its rank: scanned layers stack norm scales into matrices.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: not is_vector(names_on(path)), parameters)
