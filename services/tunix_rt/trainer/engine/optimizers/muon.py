"""Muon: momentum whose matrices are made nearly orthogonal (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

Updates are scaled so that their root mean square is that of AdamW's (Liu et al. 2025, arXiv 2502.16982, section 2.2):
learning rates and weight decay that suit AdamW suit it. Tables of tokens and positions, the output head, norm scales
and biases are trained by Adam, as both recommend.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tunix_rt.trainer.engine.optimizers.leaves import Names, is_table, is_vector, like, mapped, named_leaves, unused

_MOMENTUM: Final = 0.95
# Of the quintic iteration x ↦ a·x + b·(xxᵀ)x + c·(xxᵀ)²x; after five of them singular values are near 1.
_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
_ITERATIONS: Final = 5
_SMALLEST_NORM: Final = 1e-7
# Root mean square of AdamW's updates in practice.
_USUAL_SIZE: Final = 0.2


class MuonState(NamedTuple):
    """``count`` of updates (i32), and in the structure of the parameters the ``mean`` of gradients; ``second`` moments
    are those of parameters that Adam trains."""

    count: jax.Array  # type: ignore[assignment]
    mean: Any
    second: Any


def orthogonalized(matrices: jax.Array) -> jax.Array:
    """The matrices [..., m, n] with singular values near 1 and the same singular vectors, by Newton–Schulz."""
    wide = matrices.shape[-2] <= matrices.shape[-1]
    found = matrices if wide else matrices.mT
    found = found / (jnp.linalg.norm(found, axis=(-2, -1), keepdims=True) + _SMALLEST_NORM)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = found @ found.mT
        found = a * found + (b * square + c * square @ square) @ found
    made: jax.Array = found if wide else found.mT
    return made


def scale_by_muon(*, b1: Any, b2: Any, eps: Any) -> optax.GradientTransformation:
    """Nesterov momentum made orthogonal for the matrices of layers; Adam with ``b1``, ``b2``, ``eps`` for the rest."""

    def init(parameters: Any) -> MuonState:
        def second(names: Names, leaf: jax.Array) -> jax.Array:
            return unused() if _is_orthogonalized(names, leaf) else jnp.zeros(leaf.shape, jnp.float32)

        mean = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), parameters)
        return MuonState(jnp.zeros((), jnp.int32), mean, mapped(second, parameters))

    def update(gradients: Any, state: MuonState, parameters: Any = None) -> tuple[Any, MuonState]:
        count = state.count + 1
        time = count.astype(jnp.float32)
        stored = zip(jax.tree.leaves(state.mean), jax.tree.leaves(state.second), strict=True)
        made: list[tuple[jax.Array, ...]] = []
        for (names, gradient), (mean, second) in zip(named_leaves(gradients), stored, strict=True):
            if _is_orthogonalized(names, gradient):
                mean = _MOMENTUM * mean + (1 - _MOMENTUM) * gradient
                ahead = _MOMENTUM * mean + (1 - _MOMENTUM) * gradient
                size = _USUAL_SIZE * max(gradient.shape[-2:]) ** 0.5
                made.append((size * orthogonalized(ahead), mean, second))
                continue
            mean = b1 * mean + (1 - b1) * gradient
            second = b2 * second + (1 - b2) * jnp.square(gradient)
            step = mean / (1 - b1**time) / (jnp.sqrt(second / (1 - b2**time)) + eps)
            made.append((step, mean, second))
        steps, means, seconds = (like(gradients, part) for part in zip(*made, strict=True))
        return steps, MuonState(count, means, seconds)

    return optax.GradientTransformation(init, update)


def _is_orthogonalized(names: Names, leaf: jax.Array) -> bool:
    return leaf.ndim >= 2 and not (is_vector(names) or is_table(names))
