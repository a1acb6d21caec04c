"""The engine's programs compiled a second time, with adapters; what requests without one run is not touched.

Owns the tables, which adapter stands where, and the compiled programs. `prepare` may run while another thread drives
the engine: it reads no buffer that the engine gives away, and makes new tables instead of changing those in use.
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
    """The shapes and static arguments of an engine's programs; of the arrays nothing but shape and dtype counts."""

    cache: KVCache
    seen: jax.Array
    rows: programs.DecodeRows
    chunk: int
    steps: int
    top: int


class AdaptedPrograms:
    """Programs for the rows of up to ``places`` adapters. Until the first `prepare` there is nothing in memory."""

    def __init__(self, weights: Weights, config: ModelConfig, state: EngineState, *, places: int, rank: int) -> None:
        self._weights, self._config = weights, config
        self._avals = _avals((state.cache, state.seen, state.rows))
        self._chunk, self._steps, self._top = state.chunk, state.steps, state.top
        self.places, self.rank = places, rank
        self._compiled: Mapping[str, Callable[..., Any]] = {}
        self._tables: AdapterTables = {}
        self._place_of: dict[str, int] = {}

    @functools.cached_property
    def memory_bytes(self) -> int:
        """Of the tables, whether they are there yet or not."""
        return tables_bytes(self._config, self.places, self.rank)

    def prepare(self, place: int, name: str, factors: AdapterFactors) -> Callable[[], None]:
        """Make ready what the adapter needs, in any thread. The result is to be called by the engine's thread; it
        puts the adapter to ``place`` under ``name``, instead of the one that is there.

        Compiles for the first adapter. Raises `ValueError` for a place, rank or layer that there is not.
        """
        if not 0 <= place < self.places or factors.rank > self.rank:
            raise ValueError(f"place {place}, rank {factors.rank}: there are {self.places} places of rank {self.rank}")
        old = self._tables or empty_tables(self._config, self.places, self.rank)
        compiled = self._compiled or self._compile(old)
        tables = jax.block_until_ready(with_adapter(old, place, factors))  # type: ignore[no-untyped-call]
        others = {known: at for known, at in self._place_of.items() if at != place}

        def put() -> None:
            self._compiled, self._tables, self._place_of = compiled, tables, others | {name: place}

        return put

    def place_of(self, name: str) -> int:
        """Where the adapter stands; -1 for none. Raises `ValueError` when it is not here."""
        if name and name not in self._place_of:
            raise ValueError(f"there is no adapter {name!r}")
        return self._place_of[name] if name else _NO_ADAPTER

    def prefill_chunk(
        self, place: int, cache: KVCache, tokens: np.ndarray, positions: np.ndarray, slot: np.int32
    ) -> KVCache:
        """`programs.prefill_chunk` with the adapter at ``place``; as the two below."""
        updated: KVCache = self._run("prefill_chunk", [place], cache, tokens, positions, slot)
        return updated

    def score_chunk(
        self,
        place: int,
        cache: KVCache,
        tokens: np.ndarray,
        positions: np.ndarray,
        following: np.ndarray,
        slot: np.int32,
        wants_top: np.bool_,
    ) -> tuple[KVCache, programs.ChunkScores]:
        scored: tuple[KVCache, programs.ChunkScores] = self._run(
            "score_chunk", [place], cache, tokens, positions, following, slot, wants_top
        )
        return scored

    def decode_steps(
        self,
        places: np.ndarray,
        cache: KVCache,
        seen: jax.Array,
        rows: programs.DecodeRows,
        limits: programs.DispatchLimits,
    ) -> tuple[KVCache, jax.Array, programs.DecodeOutput]:
        """``places`` [S]: those of rows that are not active mean nothing."""
        decoded: tuple[KVCache, jax.Array, programs.DecodeOutput] = self._run(
            "decode_steps", np.maximum(places, 0), cache, seen, rows, limits
        )
        return decoded

    def _run(self, name: str, places: Any, *arguments: Any) -> Any:
        return self._compiled[name](self._weights, self._tables, np.asarray(places, np.int32), *arguments)

    def _compile(self, tables: AdapterTables) -> dict[str, Callable[..., Any]]:
        cache, seen, rows = self._avals
        tokens, number, flag = np.zeros(self._chunk, np.int32), np.int32(0), np.bool_(False)
        limits = programs.DispatchLimits(number, flag)
        one, each = np.zeros(1, np.int32), np.zeros(rows.token.shape, np.int32)
        head, static = (self._weights, tables), {"config": self._config}
        return {
            "prefill_chunk": _compiled(
                programs.prefill_chunk, (*head, one, cache, tokens, tokens, number), given=1, **static
            ),
            "score_chunk": _compiled(
                programs.score_chunk,
                (*head, one, cache, tokens, tokens, tokens, number, flag),
                given=1,
                top=self._top,
                **static,
            ),
            "decode_steps": _compiled(
                programs.decode_steps, (*head, each, cache, seen, rows, limits), given=2, steps=self._steps, **static
            ),
        }


def _avals(tree: Any) -> Any:
    """Shapes and dtypes of a pytree's arrays."""

    def aval(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)  # type: ignore[no-untyped-call]

    return jax.tree.map(aval, tree)


def _compiled(program: Callable[..., Any], arguments: tuple[Any, ...], *, given: int, **static: Hashable) -> Any:
    """``program`` over (weights, tables, places, …), compiled for ``arguments``; ``given`` arguments behind those are
    given away, as the plain program does with its cache."""
    leaves, structure = jax.tree.flatten(_avals(arguments))
    return _compiled_once(program, structure, tuple(leaves), given, tuple(sorted(static.items())))


@functools.cache
def _compiled_once(
    program: Callable[..., Any],
    structure: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    given: int,
    static: tuple[tuple[str, Hashable], ...],
) -> Any:
    """Kept for the life of the process, as JAX keeps the plain programs: models of one shape share them."""
    plain = functools.partial(inspect.unwrap(program), **dict(static))

    def adapted(weights: Weights, tables: AdapterTables, places: jax.Array, *arguments: Any) -> Any:
        return plain(with_adapters(weights, tables, places), *arguments)

    adapted.__name__ = f"adapted_{inspect.unwrap(program).__name__}"
    donated = tuple(range(3, 3 + given))
    return jax.jit(adapted, donate_argnums=donated).lower(*jax.tree.unflatten(structure, leaves)).compile()
