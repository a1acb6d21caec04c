"""Where the arrays of a run are: on one device, or spread over a device mesh.

A rule table says which axis of which array is split over which axis of the mesh. The compiler derives the collectives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import NamedSharding, PartitionSpec

from tunix_rt.contract.hyperparameters import Mesh
from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.parameters import names_on
from tunix_rt.trainer.engine.data import Batch
from tunix_rt.trainer.engine.loss import LossSums, cross_entropy_sums

DATA, FSDP, TENSOR = "data", "fsdp", "tensor"
ROWS = (DATA, FSDP)
_Rules = dict[str, tuple[str | None, str | None]]

# The last two axes of each array, by the last name of its path; leading axes (layers) are never split.
# Linear layers come in pairs: the first of a pair splits its outputs over `tensor`, the second its inputs, so
# activations between the two stay split without communication (Shoeybi et al. 2019, arXiv 1909.08053). The other axis
# is split over `fsdp` and gathered for use (ZeRO stage 3: Rajbhandari et al. 2020, arXiv 1910.02054).
_BY_OUTPUT: _Rules = {"kernel": (FSDP, TENSOR), "a": (FSDP, None), "b": (None, TENSOR)}
_BY_INPUT: _Rules = {"kernel": (TENSOR, FSDP), "a": (TENSOR, None), "b": (None, FSDP)}
_TABLES: _Rules = {"embedding": (TENSOR, FSDP), "head": (TENSOR, FSDP)}
# Linear layers that are the second of a pair, by module name.
_SECOND_OF_PAIR = frozenset({"o", "down", "c_proj"})
# Kernels of several layers in one are not split: a part of the columns would mix them. Nor is
# the router, whose experts are compared with each other.
_FUSED = frozenset({"c_attn", "qkv", "gate_up", "router"})
T = TypeVar("T")
Project = Callable[[jax.Array], jax.Array]
# Arrays of a `Batch`: NumPy on the host, traced inside a compiled step.
Rows = jax.Array | np.ndarray[Any, Any]


def make_mesh(wanted: Mesh, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """A mesh with axes ``data``, ``fsdp`` and ``tensor`` over the first devices of ``devices`` (default: all).

    In a cluster every device must be used, so the sizes must multiply to the number of devices. Raises `InvalidInput`
    naming ``hyperparameters.mesh``.
    """
    available = list(jax.devices() if devices is None else devices)
    shape = (wanted.data, wanted.fsdp, wanted.tensor)
    if wanted.size > len(available):
        raise _misfit(f"{' x '.join(map(str, shape))} needs {wanted.size} devices; {len(available)} are available")
    if jax.process_count() > 1 and wanted.size != len(available):
        cluster = f"the cluster of {jax.process_count()} processes"
        raise _misfit(f"{cluster} has {len(available)} devices; the mesh must use all of them")
    grid = mesh_utils.create_device_mesh(shape, devices=available[: wanted.size])
    return jax.sharding.Mesh(grid, (DATA, FSDP, TENSOR))


def host_memory(wanted: Mesh) -> AbstractContextManager[Any]:
    """Load on the host if the mesh has several devices: the model may not fit on the first one."""
    return jax.default_device(jax.local_devices(backend="cpu")[0]) if wanted.size > 1 else nullcontext()


def _misfit(problem: str) -> InvalidInput:
    return InvalidInput([FieldViolation("hyperparameters.mesh", problem)])


def spec(*axes: str | tuple[str, ...] | None) -> PartitionSpec:
    """The mesh axes over which each axis of an array is split."""
    return PartitionSpec(*axes)  # type: ignore[no-untyped-call]


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """The sharding of a `Batch` [A, B, T]: rows over ``data`` and ``fsdp``."""
    return NamedSharding(mesh, spec(None, ROWS, None))


def state_shardings(mesh: jax.sharding.Mesh, like: T, config: ModelConfig) -> T:
    """The shardings of ``like``: parameters, or anything that contains trees with their paths.

    An axis whose length the mesh axis does not divide is not split. Neither are attention heads if ``tensor`` does not
    divide their number: half a head would be moved at every use.
    """

    def of(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, partition(names_on(path), tuple(leaf.shape), dict(mesh.shape), config))

    found: T = jax.tree_util.tree_map_with_path(of, like)
    return found


def partition(
    names: tuple[str, ...], shape: tuple[int, ...], sizes: dict[str, int], config: ModelConfig
) -> PartitionSpec:
    """The spec of an array with ``shape`` at the path ``names``, on a mesh with axis ``sizes``."""
    if not names or len(shape) < 2:
        return spec()
    if names[-1] in _TABLES:
        wanted = _TABLES[names[-1]]
    else:
        wanted = (_BY_INPUT if _SECOND_OF_PAIR & set(names) else _BY_OUTPUT).get(names[-1], (None, None))
    heads = _heads(names, config)

    def fits(axis: str | None, length: int) -> bool:
        if axis is None or sizes[axis] == 1:
            return False
        return length % sizes[axis] == 0 and not (axis == TENSOR and (heads % sizes[axis] or _FUSED & set(names)))

    last = tuple(axis if fits(axis, length) else None for axis, length in zip(wanted, shape[-2:], strict=True))
    return spec(*(None,) * (len(shape) - 2), *last) if any(last) else spec()


def _heads(names: tuple[str, ...], config: ModelConfig) -> int:
    """Number of heads that ``tensor`` must divide; 0 outside of attention."""
    if "attention" not in names:
        return 0
    return config.num_key_value_heads if {"k", "v"} & set(names) else config.num_attention_heads


class Layout:
    """Everything on the default device: nothing is moved, copied or constrained."""

    def place(self, tree: T) -> T:
        """Move ``tree`` (parameters, optimizer state, scalars) to its devices.

        Every process must pass the same values; each keeps its own part.
        """
        return tree

    def place_rows(self, batch: Batch) -> Batch:
        """Move ``batch`` to its devices. Every process passes the same batch; each keeps the rows of its devices."""
        return batch

    def keep(self, tree: T) -> T:
        """In a traced function: constrain ``tree`` to the sharding of `place`."""
        return tree

    def keep_rows(self, array: jax.Array) -> jax.Array:
        """In a traced function: constrain activations [B, …] to the sharding of the batch's rows."""
        return array

    def cross_entropy_sums(
        self, hidden: jax.Array, targets: Rows, weights: Rows, project: Project, vocab_size: int
    ) -> LossSums:
        """`loss.cross_entropy_sums` of activations [B, T, H], targets and weights [B, T]."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        return cross_entropy_sums(flat, jnp.ravel(targets), jnp.ravel(weights), project, vocab_size)


ONE_DEVICE = Layout()


@dataclass(frozen=True)
class MeshLayout(Layout):
    """Parameters and rows split over ``mesh`` by the rules for a model with ``config``."""

    mesh: jax.sharding.Mesh
    config: ModelConfig

    def place(self, tree: T) -> T:
        placed: T = jax.tree.map(_placed, tree, state_shardings(self.mesh, tree, self.config))
        return placed

    def place_rows(self, batch: Batch) -> Batch:
        sharding = batch_sharding(self.mesh)
        split: Batch = jax.tree.map(lambda array: _split(array, sharding), batch)
        return split

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
        """Each device computes its own rows; then the sums are reduced."""
        split = tuple(axis for axis in ROWS if self.mesh.shape[axis] > 1)
        if not split:
            return super().cross_entropy_sums(hidden, targets, weights, project, vocab_size)

        def own(hidden: jax.Array, targets: jax.Array, weights: jax.Array) -> LossSums:
            found = Layout.cross_entropy_sums(self, hidden, targets, weights, project, vocab_size)
            return LossSums(*(_summed(total, split) for total in (found.loss, found.correct, found.tokens)))

        rows = spec(split)
        # Parameters captured by ``project`` are gathered along the axes named here and stay split along the others.
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
    """The layout of a run on ``mesh`` for a model with ``config``."""
    return ONE_DEVICE if mesh.size == 1 else MeshLayout(mesh, config)


def _placed(array: jax.Array, sharding: NamedSharding) -> jax.Array:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        whole = NamedSharding(sharding.mesh, spec())
        data = _split(jax.random.key_data(array), whole)
        keys: jax.Array = jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
        return keys
    return _split(array, sharding)


def _split(array: Any, sharding: NamedSharding) -> jax.Array:
    host = np.asarray(array)
    # Copies: CPU devices would share the host's memory, and a step donates its state.
    return jax.make_array_from_callback(host.shape, sharding, lambda index: np.array(host[index]))
