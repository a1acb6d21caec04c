"""The data path: texts to examples, examples to fixed-shape batches, in a seeded and resumable order.

`tokenize` applies the length budget, `lay_out` and `pack` build the rows, and `BatchStream` draws endless batches over
Grain. The position of a stream is a small JSON document that belongs to the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grain
import jax
import numpy as np
import numpy.typing as npt

from tunix_rt.errors import FieldViolation, InvalidInput

Rendered = tuple[Sequence[int], Sequence[bool | int]]
"""Token ids of an example, and whether the loss counts each."""


@dataclass(frozen=True)
class Example:
    """One tokenised trace: ``tokens`` [n] i32, and ``is_target`` [n] bool for the tokens that the loss counts."""

    tokens: npt.NDArray[np.int32]
    is_target: npt.NDArray[np.bool_]

    @property
    def length(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Tokenized:
    """The tokenised examples within the length budget, and the numbers of dropped and truncated ones."""

    examples: tuple[Example, ...]
    dropped: int
    truncated: int
    longest: int

    @property
    def tokens(self) -> int:
        return sum(example.length for example in self.examples)


def tokenize(rendered: Iterable[Rendered], *, max_length: int, overlong: str) -> Tokenized:
    """The ``rendered`` examples within the budget of ``max_length`` tokens.

    ``overlong`` is ``drop``, ``truncate`` (cut at the end; dropped if no target is left) or ``error``.
    Raises `InvalidInput` naming ``hyperparameters.max_seq_length`` for ``error``, or when nothing is left to train on.
    """
    kept: list[Example] = []
    count = dropped = truncated = longest = 0
    for ids, mask in rendered:
        count += 1
        longest = max(longest, len(ids))
        if len(ids) > max_length and overlong != "truncate":
            dropped += 1
            continue
        example = Example(np.asarray(ids[:max_length], np.int32), np.asarray(mask[:max_length], np.bool_))
        if not example.is_target[1:].any():
            dropped += 1
            continue
        truncated += len(ids) > max_length
        kept.append(example)
    if overlong == "error" and longest > max_length:
        raise _over_budget(f"{dropped} of {count} examples are longer than {max_length} tokens (longest: {longest})")
    if not kept:
        raise _over_budget(f"no example has a completion within {max_length} tokens (longest: {longest} tokens)")
    return Tokenized(tuple(kept), dropped, truncated, longest)


def _over_budget(problem: str) -> InvalidInput:
    return InvalidInput([FieldViolation("hyperparameters.max_seq_length", f"{problem}; raise it, or choose overlong")])


Ints = npt.NDArray[np.int32]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """The input of one optimizer step. Every array is [A, B, T]: accumulation, rows, positions.

    ``segment_ids`` count from 1 within a row, 0 is padding; ``positions`` restart with each segment. ``targets`` is
    the next token of the same segment; ``weights`` (f32) is 1 where that token is a target of the loss, else 0.
    """

    tokens: Ints
    positions: Ints
    segment_ids: Ints
    targets: Ints
    weights: npt.NDArray[np.float32]

    @property
    def real_tokens(self) -> int:
        """Tokens that are not padding."""
        return int(np.count_nonzero(self.segment_ids))

    @property
    def target_tokens(self) -> int:
        """Tokens that count in the loss."""
        return int(np.count_nonzero(self.weights))

    def token_pairs(self, window: int | None = None) -> int:
        """Pairs of tokens in one segment: Σ n² over segments of n tokens. Attention costs are proportional to it.

        With a sliding ``window``: only pairs less than ``window`` apart.
        """
        reach = np.minimum(self.positions[self.segment_ids > 0].astype(np.int64) + 1, window or self.tokens.shape[-1])
        # A causal query at position p sees p + 1 keys; both triangles of the square have 2 (p + 1) − 1 entries.
        return int(np.sum(2 * reach - 1))


def lay_out(rows: Sequence[Sequence[Example]], *, accumulation: int, length: int) -> Batch:
    """Write ``rows``, each a sequence of examples that fit into ``length`` together, into a `Batch`.

    ``len(rows)`` must be a multiple of ``accumulation``.
    """
    shape = (len(rows), length)
    tokens, positions, segments, targets = (np.zeros(shape, np.int32) for _ in range(4))
    weights = np.zeros(shape, np.float32)
    for index, row in enumerate(rows):
        start = 0
        for number, example in enumerate(row, start=1):
            end = start + example.length
            tokens[index, start:end] = example.tokens
            positions[index, start:end] = np.arange(example.length)
            segments[index, start:end] = number
            targets[index, start : end - 1] = example.tokens[1:]
            weights[index, start : end - 1] = example.is_target[1:]
            start = end
    cut = (accumulation, len(rows) // accumulation, length)
    return Batch(
        tokens=tokens.reshape(cut),
        positions=positions.reshape(cut),
        segment_ids=segments.reshape(cut),
        targets=targets.reshape(cut),
        weights=weights.reshape(cut),
    )


# Recent rows that are searched for space: enough to fill rows well, few enough for large datasets.
_OPEN_ROWS = 64


def pack(examples: Sequence[Example], length: int) -> list[list[Example]]:
    """``examples`` as rows of at most ``length`` tokens: each goes into the first recent row with enough space."""
    rows: list[list[Example]] = []
    space: list[int] = []
    for example in examples:
        recent = range(max(0, len(rows) - _OPEN_ROWS), len(rows))
        fitting = next((index for index in recent if space[index] >= example.length), None)
        if fitting is None:
            fitting = len(rows)
            rows.append([])
            space.append(length)
        rows[fitting].append(example)
        space[fitting] -= example.length
    return rows


def row_length(longest: int, max_seq_length: int, *, packing: bool, multiple: int = 8) -> int:
    """Positions in a row: ``max_seq_length`` when packing, else the length of the longest example.

    Rounded up to a ``multiple`` that suits vector units, but never beyond ``max_seq_length``.
    """
    if packing:
        return max_seq_length
    return min(max_seq_length, -(-longest // multiple) * multiple)


class BatchStream:
    """Endless batches of ``accumulation * rows`` rows of ``length`` positions, reshuffled every epoch from ``seed``.

    Without packing a row is one example. With packing, examples are taken in stream order and put into the first row
    of the batch with enough space; the first one that does not fit starts the next batch. Nothing is skipped or
    repeated within an epoch, and a stream restored from `position` continues exactly where the other one was.
    """

    def __init__(
        self, examples: Sequence[Example], *, rows: int, accumulation: int, length: int, packing: bool, seed: int
    ) -> None:
        self._rows, self._accumulation, self._length, self._packing = rows * accumulation, accumulation, length, packing
        # Grain takes 32-bit seeds.
        folded = int(np.random.SeedSequence(seed).generate_state(1)[0])
        order = grain.MapDataset.source(range(len(examples))).shuffle(seed=folded).repeat(None)
        self._examples = examples
        self._order = iter(order.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)))
        self._seen = 0

    @property
    def examples_seen(self) -> int:
        """Number of examples in the batches returned so far."""
        return self._seen

    @property
    def examples_per_batch(self) -> int | None:
        """Number of examples in each batch; None with packing, where it varies."""
        return None if self._packing else self._rows

    def position(self) -> dict[str, Any]:
        """The position of the next batch, as JSON."""
        return {"order": self._order.get_state(), "examples_seen": self._seen}

    def seek(self, position: dict[str, Any]) -> None:
        """Continue at a `position` of a stream with the same examples, shape and seed."""
        self._order.set_state(position["order"])
        self._seen = int(position["examples_seen"])

    def __iter__(self) -> BatchStream:
        return self

    def __next__(self) -> Batch:
        rows = self._packed_rows() if self._packing else [[self._take()] for _ in range(self._rows)]
        return lay_out(rows, accumulation=self._accumulation, length=self._length)

    def _take(self) -> Example:
        self._seen += 1
        return self._examples[int(next(self._order))]

    def _packed_rows(self) -> list[list[Example]]:
        rows: list[list[Example]] = [[] for _ in range(self._rows)]
        space = [self._length] * self._rows
        while True:
            before = self.position()
            example = self._take()
            fitting = next((index for index, free in enumerate(space) if free >= example.length), None)
            if fitting is None:
                self.seek(before)
                return rows
            rows[fitting].append(example)
            space[fitting] -= example.length


def count_steps(stream: BatchStream, n_examples: int, num_epochs: float) -> int:
    """Optimizer steps for ``num_epochs`` passes over ``n_examples``, at least 1.

    Leaves ``stream`` at its start.
    """
    wanted = math.ceil(n_examples * num_epochs)
    if stream.examples_per_batch is not None:
        return max(1, math.ceil(wanted / stream.examples_per_batch))
    start = stream.position()
    steps = 0
    while stream.examples_seen < wanted:
        next(stream)
        steps += 1
    stream.seek(start)
    return max(1, steps)
