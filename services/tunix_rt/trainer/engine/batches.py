"""Fixed-shape batches: rows of one padded example, or of several packed ones kept apart by segment ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
import numpy.typing as npt

from tunix_rt.trainer.engine.examples import Example

Ints = npt.NDArray[np.int32]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """What one optimizer step consumes; every array is [A, B, T]: accumulation, rows, positions.

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
        """Pairs of tokens of one segment, itself included: Σ n² over segments of n tokens.

        With a sliding ``window``, only pairs less than ``window`` apart. It is what attention costs scale with.
        """
        reach = np.minimum(self.positions[self.segment_ids > 0].astype(np.int64) + 1, window or self.tokens.shape[-1])
        # A causal query at position p sees p + 1 keys; both triangles of the square are 2 (p + 1) − 1.
        return int(np.sum(2 * reach - 1))


def lay_out(rows: Sequence[Sequence[Example]], *, accumulation: int, length: int) -> Batch:
    """Write ``rows`` (each a sequence of examples that fit into ``length`` together) into a `Batch`.

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


# Rows that are looked at for room: enough to fill them, few enough for large sets.
_OPEN_ROWS = 64


def pack(examples: Sequence[Example], length: int) -> list[list[Example]]:
    """``examples`` in their order as rows of at most ``length`` tokens, each into the first recent row with room."""
    rows: list[list[Example]] = []
    room: list[int] = []
    for example in examples:
        recent = range(max(0, len(rows) - _OPEN_ROWS), len(rows))
        place = next((index for index in recent if room[index] >= example.length), None)
        if place is None:
            place = len(rows)
            rows.append([])
            room.append(length)
        rows[place].append(example)
        room[place] -= example.length
    return rows


def row_length(longest: int, max_seq_length: int, *, packing: bool, multiple: int = 8) -> int:
    """Positions in a row: ``max_seq_length`` when packing, else just enough for the longest example.

    Rounded up to a multiple that vector units like, but never beyond ``max_seq_length``.
    """
    if packing:
        return max_seq_length
    return min(max_seq_length, -(-longest // multiple) * multiple)
