"""The data path: an endless, seeded, resumable stream of batches over Grain.

Owns the order of examples and the position in it. The position is a small JSON document that belongs to the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from tunix_rt.trainer.engine.batches import Batch, lay_out
from tunix_rt.trainer.engine.examples import Example


class BatchStream:
    """Batches of ``accumulation * rows`` rows of ``length`` positions; every epoch is shuffled anew from ``seed``.

    Without packing a row is one example. With packing, examples are taken in stream order and put into the first row
    of the batch with room; the first one that fits nowhere starts the next batch. Nothing is skipped or repeated
    within an epoch, and a stream restored from `position` goes on exactly where the other stood.
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
        """Examples in the batches handed out so far."""
        return self._seen

    @property
    def examples_per_batch(self) -> int | None:
        """Examples in each batch; None when packing, where that varies."""
        return None if self._packing else self._rows

    def position(self) -> dict[str, Any]:
        """Where the next batch starts, as JSON."""
        return {"order": self._order.get_state(), "examples_seen": self._seen}

    def seek(self, position: dict[str, Any]) -> None:
        """Go to a `position` taken from a stream over the same examples, shape and seed."""
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
        room = [self._length] * self._rows
        while True:
            before = self.position()
            example = self._take()
            place = next((index for index, free in enumerate(room) if free >= example.length), None)
            if place is None:
                self.seek(before)
                return rows
            rows[place].append(example)
            room[place] -= example.length


def count_steps(stream: BatchStream, n_examples: int, num_epochs: float) -> int:
    """Optimizer steps until ``num_epochs`` passes over ``n_examples`` have been seen, at least 1.

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
