"""Where the arrays of a run are: on one device, or spread over a mesh.

Owns placing them and keeping them in place inside a compiled step, and the loss over rows that are apart. Knows nothing
of files, of what a step computes, or of which process is which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from tunix_rt.models.config import ModelConfig
from tunix_rt.trainer.engine.batches import Batch
from tunix_rt.trainer.engine.loss import LossSums, cross_entropy_sums
from tunix_rt.trainer.engine.mesh import ROWS, batch_sharding, spec, state_shardings

T = TypeVar("T")
Project = Callable[[jax.Array], jax.Array]
# Of a `Batch`: arrays of the host by its type, traced ones where a step is compiled.
Rows = jax.Array | np.ndarray[Any, Any]


class Layout:
    """Everything on the default device: nothing is moved, copied or constrained."""

    def place(self, tree: T) -> T:
        """``tree`` (parameters, optimizer state, scalars) where it belongs.

        Every process must hold the same values; each keeps its own part.
        """
        return tree

    def place_rows(self, batch: Batch) -> Batch:
        """``batch`` where it belongs. Every process lays out the same batch; each feeds the rows of its own devices."""
        return batch

    def keep(self, tree: T) -> T:
        """In a traced function: ``tree`` stays where `place` puts it."""
        return tree

    def keep_rows(self, array: jax.Array) -> jax.Array:
        """In a traced function: activations [B, …] stay with the rows of their batch."""
        return array

    def cross_entropy_sums(
        self, hidden: jax.Array, targets: Rows, weights: Rows, project: Project, vocab_size: int
    ) -> LossSums:
        """`loss.cross_entropy_sums` over activations [B, T, H] and targets and weights [B, T]."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        return cross_entropy_sums(flat, jnp.ravel(targets), jnp.ravel(weights), project, vocab_size)


ONE_DEVICE = Layout()


@dataclass(frozen=True)
class MeshLayout(Layout):
    """Parameters and rows spread over ``mesh`` by `tunix_rt.trainer.engine.mesh`'s rules for a model of ``config``."""

    mesh: jax.sharding.Mesh
    config: ModelConfig

    def place(self, tree: T) -> T:
        placed: T = jax.tree.map(_placed, tree, state_shardings(self.mesh, tree, self.config))
        return placed

    def place_rows(self, batch: Batch) -> Batch:
        sharding = batch_sharding(self.mesh)
        spread: Batch = jax.tree.map(lambda array: _spread(array, sharding), batch)
        return spread

    def keep(self, tree: T) -> T:
        shardings = state_shardings(self.mesh, tree, self.config)
        kept: T = jax.lax.with_sharding_constraint(tree, shardings)  # type: ignore[no-untyped-call]
        return kept

    def keep_rows(self, array: jax.Array) -> jax.Array:
        rows = NamedSharding(self.mesh, spec(ROWS, *(None,) * (array.ndim - 1)))
        kept: jax.Array = jax.lax.with_sharding_constraint(array, rows)  # type: ignore[no-untyped-call]
        return kept

    def cross_entropy_sums(
        self, hidden: jax.Array, targets: Rows, weights: Rows, project: Project, vocab_size: int
    ) -> LossSums:
        """Each device works off its own rows; then the sums are added up."""
        split = tuple(axis for axis in ROWS if self.mesh.shape[axis] > 1)
        if not split:
            return super().cross_entropy_sums(hidden, targets, weights, project, vocab_size)

        def own(hidden: jax.Array, targets: jax.Array, weights: jax.Array) -> LossSums:
            found = Layout.cross_entropy_sums(self, hidden, targets, weights, project, vocab_size)
            return LossSums(*(_summed(total, split) for total in (found.loss, found.correct, found.tokens)))

        rows = spec(split)
        # Parameters inside ``project`` come in whole along the axes named here, and as they lie along the others.
        everywhere = jax.shard_map(
            own,
            mesh=self.mesh,
            in_specs=(rows, rows, rows),
            out_specs=spec(),
            axis_names=set(split),
            check_vma=False,
        )
        return everywhere(hidden, jnp.asarray(targets), jnp.asarray(weights))


def _summed(total: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    summed: jax.Array = jax.lax.psum(total, axes)  # type: ignore[no-untyped-call]
    return summed


def layout_on(mesh: jax.sharding.Mesh, config: ModelConfig) -> Layout:
    """The layout of a run on ``mesh`` for a model of ``config``."""
    return ONE_DEVICE if mesh.size == 1 else MeshLayout(mesh, config)


def _placed(array: jax.Array, sharding: NamedSharding) -> jax.Array:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        whole = NamedSharding(sharding.mesh, spec())
        data = _spread(jax.random.key_data(array), whole)
        keys: jax.Array = jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
        return keys
    return _spread(array, sharding)


def _spread(array: Any, sharding: NamedSharding) -> jax.Array:
    host = np.asarray(array)
    # Copies: devices of the CPU would share the host's memory, and a step's state is donated.
    return jax.make_array_from_callback(host.shape, sharding, lambda index: np.array(host[index]))
