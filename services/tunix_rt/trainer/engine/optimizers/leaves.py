"""Trees of parameters as lists of leaves with their names: an optimizer may treat kinds of parameters differently."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp

from tunix_rt.models.parameters import names_on

# Scales and biases: a layer has one vector, a stack of layers a matrix of vectors.
VECTORS: Final = frozenset({"scale", "bias"})
# One row a token or position.
TABLES: Final = frozenset({"embedding", "positions", "head"})

Names = tuple[str, ...]


def named_leaves(tree: Any) -> list[tuple[Names, jax.Array]]:
    """The leaves of ``tree`` in its order, with the names on their path."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(names_on(path), leaf) for path, leaf in paths]


def like(tree: Any, leaves: Sequence[jax.Array]) -> Any:
    """``leaves`` in the structure of ``tree``."""
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def mapped(make: Callable[[Names, jax.Array], jax.Array], tree: Any) -> Any:
    """``make`` of every leaf and its names, in the structure of ``tree``."""
    return like(tree, [make(names, leaf) for names, leaf in named_leaves(tree)])


def is_vector(names: Names) -> bool:
    """Whether the leaf holds one vector a layer."""
    return not VECTORS.isdisjoint(names)


def is_table(names: Names) -> bool:
    """Whether the leaf is an embedding, the table of positions or the output head."""
    return not TABLES.isdisjoint(names)


def unused() -> jax.Array:
    """Stands in a state for an array that a leaf does not need: checkpoints hold no empty arrays."""
    return jnp.zeros((1,), jnp.float32)
