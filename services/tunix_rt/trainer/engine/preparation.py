"""From a dataset's texts to the examples that a run trains on and holds out, with an account of every example."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunix_rt.contract.hyperparameters import Hyperparameters
from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.trainer.engine.data import (
    Batch,
    BatchStream,
    Example,
    Rendered,
    Tokenized,
    lay_out,
    pack,
    row_length,
    tokenize,
)


@dataclass(frozen=True)
class Prepared:
    """The examples of a run. ``budget``: maximum tokens of an example; ``length``: positions of a row."""

    tokenized: Tokenized
    parts: Split
    budget: int
    length: int

    @property
    def training(self) -> tuple[Example, ...]:
        return self.parts.training

    def stream(self, hp: Hyperparameters, *, rows: int) -> BatchStream:
        """The training examples as batches of ``gradient_accumulation_steps`` parts of ``rows`` rows."""
        return BatchStream(
            self.training,
            rows=rows,
            accumulation=hp.gradient_accumulation_steps,
            length=self.length,
            packing=hp.packing,
            seed=hp.seed,
        )

    def held_out(self, *, rows: int) -> list[Batch]:
        """The held-out examples as batches of ``rows`` rows."""
        return held_out_batches(self.parts.held_out, rows=rows, length=self.length)

    @property
    def account(self) -> dict[str, str]:
        """The numbers of trained, held-out, dropped and truncated examples, for the model's lineage."""
        found = self.tokenized
        return {
            "examples_trained": str(len(self.parts.training)),
            "examples_held_out": str(len(self.parts.held_out)),
            "examples_dropped": str(found.dropped),
            "examples_truncated": str(found.truncated),
            "longest_example": str(found.longest),
            "token_budget": str(self.budget),
        }

    def __str__(self) -> str:
        found, held_out = self.tokenized, len(self.parts.held_out)
        return (
            f"{len(found.examples)} examples, {found.tokens:,} tokens (longest {found.longest}); "
            f"{found.dropped} dropped and {found.truncated} cut at {self.budget} tokens"
            + (f"; {held_out} held out of training" if held_out else "")
        )


def prepare(rendered: Iterable[Rendered], hp: Hyperparameters, max_positions: int) -> Prepared:
    """The ``rendered`` examples within ``max_seq_length`` and the model's ``max_positions``.

    Raises `InvalidInput` naming the hyperparameter when no example is left to train on or to hold out, or when
    ``overlong`` is ``error`` and an example is too long.
    """
    budget = min(hp.max_seq_length, max_positions)
    tokenized = tokenize(rendered, max_length=budget, overlong=hp.overlong)
    parts = split(tokenized.examples, hp.eval_fraction, hp.seed) if hp.eval_steps else Split(tokenized.examples, ())
    longest = max(example.length for example in tokenized.examples)
    return Prepared(tokenized, parts, budget, row_length(longest, budget, packing=hp.packing))


@dataclass(frozen=True)
class Split:
    """The examples to train on and those to hold out, each in dataset order."""

    training: tuple[Example, ...]
    held_out: tuple[Example, ...]


def split(examples: Sequence[Example], fraction: float, seed: int) -> Split:
    """Hold out ``fraction`` of ``examples``, drawn by ``seed``; at least one example on each side.

    Examples are ranked by a hash of the seed and their content. The draw therefore depends neither on the dataset's
    order nor on a library's generator, and copies of an example are always on the same side: a held-out example is
    never trained on. Raises `InvalidInput` naming ``hyperparameters.eval_steps`` for fewer than two distinct examples.
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
    """``examples`` packed in order into batches of ``rows`` rows of ``length``, without accumulation ([1, B, T])."""
    packed = pack(examples, length)
    packed += [[] for _ in range(-len(packed) % rows)]
    return [lay_out(packed[at : at + rows], accumulation=1, length=length) for at in range(0, len(packed), rows)]
