"""The device mesh of a run, and the rule table: which axis of which array lies along which axis of the mesh.

Knows parameter paths and shapes; knows nothing of values, files or steps. The collectives that follow from it are the
compiler's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import jax
from jax.experimental import mesh_utils
from jax.sharding import NamedSharding, PartitionSpec

from tunix_rt.contract.hyperparameters import Mesh
from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.parameters import names_on

DATA, FSDP, TENSOR = "data", "fsdp", "tensor"
ROWS = (DATA, FSDP)
_Rules = dict[str, tuple[str | None, str | None]]

# The last two axes of each array by the last name of its path; what stands before them (layers) is never split.
# Linear layers come in pairs, so that activations between the two stay split over `tensor` without being moved
# (Shoeybi et al. 2019, arXiv 1909.08053): the first of a pair splits its outputs, the second its inputs. The other
# axis is split over `fsdp` and gathered for use (ZeRO stage 3: Rajbhandari et al. 2020, arXiv 1910.02054).
_BY_OUTPUT: _Rules = {"kernel": (FSDP, TENSOR), "a": (FSDP, None), "b": (None, TENSOR)}
_BY_INPUT: _Rules = {"kernel": (TENSOR, FSDP), "a": (TENSOR, None), "b": (None, FSDP)}
_TABLES: _Rules = {"embedding": (TENSOR, FSDP), "head": (TENSOR, FSDP)}
# Linear layers that are the second of a pair, by the name of the module.
_SECOND_OF_PAIR = frozenset({"o", "down", "c_proj"})
# Queries, keys and values side by side in one kernel: a part of its columns would be a mixture of them.
_FUSED = frozenset({"c_attn"})
T = TypeVar("T")


def make_mesh(wanted: Mesh, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """A mesh with axes ``data``, ``fsdp`` and ``tensor`` over the first devices of ``devices`` (default: all).

    Every process of a cluster must have its devices in it, so there the sizes must multiply to the number of devices.
    Raises `InvalidInput` naming ``hyperparameters.mesh``.
    """
    available = list(jax.devices() if devices is None else devices)
    shape = (wanted.data, wanted.fsdp, wanted.tensor)
    if wanted.size > len(available):
        raise _misfit(f"{' x '.join(map(str, shape))} needs {wanted.size} devices, there are {len(available)}")
    if jax.process_count() > 1 and wanted.size != len(available):
        raise _misfit(f"the cluster of {jax.process_count()} processes has {len(available)} devices; use all of them")
    grid = mesh_utils.create_device_mesh(shape, devices=available[: wanted.size])
    return jax.sharding.Mesh(grid, (DATA, FSDP, TENSOR))


def host_memory(wanted: Mesh) -> AbstractContextManager[Any]:
    """Where a model for ``wanted`` is loaded before it is placed: one for several devices may not fit on the first."""
    return jax.default_device(jax.local_devices(backend="cpu")[0]) if wanted.size > 1 else nullcontext()


def _misfit(problem: str) -> InvalidInput:
    return InvalidInput([FieldViolation("hyperparameters.mesh", problem)])


def spec(*axes: str | tuple[str, ...] | None) -> PartitionSpec:
    """Which axes of the mesh each axis of an array is split over."""
    return PartitionSpec(*axes)  # type: ignore[no-untyped-call]


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Of the arrays of a `Batch` [A, B, T]: rows over ``data`` and ``fsdp``."""
    return NamedSharding(mesh, spec(None, ROWS, None))


def state_shardings(mesh: jax.sharding.Mesh, like: T, config: ModelConfig) -> T:
    """A tree like ``like`` (parameters, or anything that holds trees of their paths) of `NamedSharding`.

    An axis that the mesh does not divide stays whole, and so do the heads of an attention layer whose number (of
    queries, of keys) ``tensor`` does not divide: half a head would be moved at every use.
    """

    def of(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, partition(names_on(path), tuple(leaf.shape), dict(mesh.shape), config))

    found: T = jax.tree_util.tree_map_with_path(of, like)
    return found


def partition(
    names: tuple[str, ...], shape: tuple[int, ...], sizes: dict[str, int], config: ModelConfig
) -> PartitionSpec:
    """Of the array ``shape`` at the path of ``names``, on a mesh whose axes have ``sizes``."""
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
    """What of a layer must stay together over ``tensor``; 0 where nothing must."""
    if "attention" not in names:
        return 0
    return config.num_key_value_heads if {"k", "v"} & set(names) else config.num_attention_heads
