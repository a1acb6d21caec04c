"""The engine's programs compiled a second time, with adapters. Requests without adapter keep the plain programs.

`prepare` may run while another thread drives the engine: it reads no donated buffer, and creates new tables instead of
modifying those in use.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from tunix_rt.inferencer.engine import programs
from tunix_rt.inferencer.engine.adapter_tables import (
    AdapterTables,
    empty_tables,
    tables_bytes,
    with_adapter,
    with_adapters,
)
from tunix_rt.inferencer.engine.interface import AdapterFactors
from tunix_rt.models.cached import KVCache, Weights
from tunix_rt.models.config import ModelConfig

_NO_ADAPTER = -1


@dataclass(frozen=True)
class EngineState:
    """The shapes and static arguments of an engine's programs. Only shape and dtype of the arrays are used."""

    cache: KVCache
    seen: jax.Array
    rows: programs.DecodeRows
    chunk: int
    steps: int
    top: int


class AdaptedPrograms:
    """Programs for up to ``max_adapters`` adapters. Nothing is allocated before the first `prepare`."""

    def __init__(
        self, weights: Weights, config: ModelConfig, state: EngineState, *, max_adapters: int, rank: int
    ) -> None:
        self._weights, self._config = weights, config
        self._avals = _avals((state.cache, state.seen, state.rows))
        self._chunk, self._steps, self._top = state.chunk, state.steps, state.top
        self.max_adapters, self.rank = max_adapters, rank
        self._compiled: Mapping[str, Callable[..., Any]] = {}
        self._tables: AdapterTables = {}
        self._index_of: dict[str, int] = {}

    @functools.cached_property
    def memory_bytes(self) -> int:
        """Bytes of the tables, allocated or not."""
        return tables_bytes(self._config, self.max_adapters, self.rank)

    def prepare(self, index: int, name: str, factors: AdapterFactors) -> Callable[[], None]:
        """Prepare an adapter, in any thread. Compiles for the first one.

        The engine's thread must call the result, which replaces the adapter at ``index`` by ``name``. Raises
        `ValueError` for an index, rank or layer out of range.
        """
        if not 0 <= index < self.max_adapters or factors.rank > self.rank:
            limits = f"at most {self.max_adapters} adapters of rank {self.rank}"
            raise ValueError(f"adapter index {index} or rank {factors.rank} is out of range: {limits}")
        old = self._tables or empty_tables(self._config, self.max_adapters, self.rank)
        compiled = self._compiled or self._compile(old)
        tables = jax.block_until_ready(with_adapter(old, index, factors))  # type: ignore[no-untyped-call]
        others = {known: at for known, at in self._index_of.items() if at != index}

        def put() -> None:
            self._compiled, self._tables, self._index_of = compiled, tables, others | {name: index}

        return put

    def index_of(self, name: str) -> int:
        """The adapter's index; -1 for "". Raises `ValueError` for an unknown name."""
        if name and name not in self._index_of:
            raise ValueError(f"unknown adapter {name!r}")
        return self._index_of[name] if name else _NO_ADAPTER

    def prefill_chunk(
        self, index: int, cache: KVCache, tokens: np.ndarray, positions: np.ndarray, slot: np.int32
    ) -> KVCache:
        """`programs.prefill_chunk` with the adapter at ``index``."""
        updated: KVCache = self._run("prefill_chunk", [index], cache, tokens, positions, slot)
        return updated

    def score_chunk(
        self,
        index: int,
        cache: KVCache,
        tokens: np.ndarray,
        positions: np.ndarray,
        following: np.ndarray,
        slot: np.int32,
        wants_top: np.bool_,
    ) -> tuple[KVCache, programs.ChunkScores]:
        """`programs.score_chunk` with the adapter at ``index``."""
        scored: tuple[KVCache, programs.ChunkScores] = self._run(
            "score_chunk", [index], cache, tokens, positions, following, slot, wants_top
        )
        return scored

    def decode_steps(
        self,
        indices: np.ndarray,
        cache: KVCache,
        seen: jax.Array,
        rows: programs.DecodeRows,
        limits: programs.DispatchLimits,
    ) -> tuple[KVCache, jax.Array, programs.DecodeOutput]:
        """`programs.decode_steps` with the adapters ``indices`` [S]; those of inactive rows are ignored."""
        decoded: tuple[KVCache, jax.Array, programs.DecodeOutput] = self._run(
            "decode_steps", np.maximum(indices, 0), cache, seen, rows, limits
        )
        return decoded

    def _run(self, name: str, indices: Any, *arguments: Any) -> Any:
        return self._compiled[name](self._weights, self._tables, np.asarray(indices, np.int32), *arguments)

    def _compile(self, tables: AdapterTables) -> dict[str, Callable[..., Any]]:
        cache, seen, rows = self._avals
        tokens, number, flag = np.zeros(self._chunk, np.int32), np.int32(0), np.bool_(False)
        limits = programs.DispatchLimits(number, flag)
        one, each = np.zeros(1, np.int32), np.zeros(rows.token.shape, np.int32)
        head, static = (self._weights, tables), {"config": self._config}
        return {
            "prefill_chunk": _compiled(
                programs.prefill_chunk, (*head, one, cache, tokens, tokens, number), donated=1, **static
            ),
            "score_chunk": _compiled(
                programs.score_chunk,
                (*head, one, cache, tokens, tokens, tokens, number, flag),
                donated=1,
                top=self._top,
                **static,
            ),
            "decode_steps": _compiled(
                programs.decode_steps, (*head, each, cache, seen, rows, limits), donated=2, steps=self._steps, **static
            ),
        }


def _avals(tree: Any) -> Any:
    """Shapes and dtypes of a pytree's arrays."""

    def aval(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)  # type: ignore[no-untyped-call]

    return jax.tree.map(aval, tree)


def _compiled(program: Callable[..., Any], arguments: tuple[Any, ...], *, donated: int, **static: Hashable) -> Any:
    """``program`` over (weights, tables, indices, …), compiled for ``arguments``.

    The first ``donated`` arguments after these three are donated, as the plain program donates its cache.
    """
    leaves, structure = jax.tree.flatten(_avals(arguments))
    return _compiled_once(program, structure, tuple(leaves), donated, tuple(sorted(static.items())))


@functools.cache
def _compiled_once(
    program: Callable[..., Any],
    structure: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    donated: int,
    static: tuple[tuple[str, Hashable], ...],
) -> Any:
    """Cached like JAX's plain programs, until `drop_adapted_programs`: models of one shape share them."""
    plain = functools.partial(inspect.unwrap(program), **dict(static))

    def adapted(weights: Weights, tables: AdapterTables, indices: jax.Array, *arguments: Any) -> Any:
        return plain(with_adapters(weights, tables, indices), *arguments)

    adapted.__name__ = f"adapted_{inspect.unwrap(program).__name__}"
    return (
        jax.jit(adapted, donate_argnums=tuple(range(3, 3 + donated)))
        .lower(*jax.tree.unflatten(structure, leaves))
        .compile()
    )


def drop_adapted_programs() -> None:
    """Forget the compiled programs; engines keep those that they hold."""
    _compiled_once.cache_clear()
