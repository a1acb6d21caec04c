"""Held-out loss: which examples are kept out of training, and what the model makes of them.

Owns the split and the measurement. Knows nothing of when it is taken or what becomes of it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.trainer.engine.batches import Batch, lay_out, pack
from tunix_rt.trainer.engine.examples import Example
from tunix_rt.trainer.engine.layout import ONE_DEVICE, Layout
from tunix_rt.trainer.engine.loss import LossSums


@dataclass(frozen=True)
class Split:
    """Examples by their use, each part in dataset order."""

    training: tuple[Example, ...]
    held_out: tuple[Example, ...]


@dataclass(frozen=True)
class HeldOutMetrics:
    """Mean loss and accuracy per target token over all held-out examples."""

    loss: float
    token_accuracy: float


def split(examples: Sequence[Example], fraction: float, seed: int) -> Split:
    """Hold out ``fraction`` of ``examples``, drawn by ``seed``: at least one, and at least one stays.

    An example's place in the draw is a hash of the seed and its content, so that it depends neither on the dataset's
    order nor on a library's generator, and copies of one example are always on the same side: a held-out example has
    never been trained on. Raises `InvalidInput` naming ``hyperparameters.eval_steps`` when fewer than two different
    examples are left to split.
    """
    copies: dict[bytes, list[int]] = {}
    for index, example in enumerate(examples):
        copies.setdefault(_rank(seed, example), []).append(index)
    if len(copies) < 2:
        problem = "needs at least two different examples, one to train on and one to hold out; set it to 0"
        raise InvalidInput([FieldViolation("hyperparameters.eval_steps", problem)])
    wanted = max(1, round(fraction * len(examples)))
    chosen: set[int] = set()
    for rank in sorted(copies)[:-1]:
        if len(chosen) >= wanted:
            break
        chosen.update(copies[rank])
    return Split(
        training=tuple(example for index, example in enumerate(examples) if index not in chosen),
        held_out=tuple(examples[index] for index in sorted(chosen)),
    )


def _rank(seed: int, example: Example) -> bytes:
    content = hashlib.sha256(f"held out {seed}".encode())
    content.update(example.tokens.tobytes())
    content.update(example.is_target.tobytes())
    return content.digest()


def held_out_batches(examples: Sequence[Example], *, rows: int, length: int) -> list[Batch]:
    """``examples`` in their order, packed into batches of ``rows`` rows of ``length``, one part each ([1, B, T])."""
    packed = pack(examples, length)
    packed += [[] for _ in range(-len(packed) % rows)]
    return [lay_out(packed[at : at + rows], accumulation=1, length=length) for at in range(0, len(packed), rows)]


def build_eval_step(graph: Any, layout: Layout = ONE_DEVICE) -> jax.stages.Wrapped:
    """The jitted sums over the target tokens of a batch [1, B, T], from (parameters, frozen parameters, batch).

    Without dropout, and nothing is donated: the state goes on as if nobody had looked.
    """

    def sums(parameters: Any, frozen: Any, batch: Batch) -> LossSums:
        decoder = nnx.merge(graph, parameters, frozen)
        part = jax.tree.map(lambda array: array[0], batch)
        hidden = layout.keep_rows(decoder.hidden(part.tokens, part.positions, part.segment_ids))  # [B, T, H]
        return layout.cross_entropy_sums(hidden, part.targets, part.weights, decoder.logits, decoder.config.vocab_size)

    return jax.jit(sums)


class HeldOut:
    """The held-out batches, and the compiled step that measures a model on them."""

    def __init__(self, step: Callable[[Any, Any, Batch], LossSums], batches: Sequence[Batch]) -> None:
        self._step, self._batches = step, tuple(batches)

    def measure(self, parameters: Any, frozen: Any) -> HeldOutMetrics:
        """Σ loss / Σ tokens over all batches; the sums are added in float64, in the batches' order."""
        found = jax.device_get([self._step(parameters, frozen, batch) for batch in self._batches])
        loss, correct, tokens = (
            math.fsum(float(getattr(sums, name)) for sums in found) for name in ("loss", "correct", "tokens")
        )
        return HeldOutMetrics(loss / tokens, correct / tokens)
