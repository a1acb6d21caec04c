"""From a dataset's texts to what a run trains on and what it holds out, with an account of every example.

Owns the order: length budget, hold-out, row length. Knows nothing of models, steps or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunix_rt.contract.hyperparameters import Hyperparameters
from tunix_rt.trainer.engine.batches import Batch, row_length
from tunix_rt.trainer.engine.data import BatchStream
from tunix_rt.trainer.engine.examples import Example, RenderExample, Tokenized, tokenize
from tunix_rt.trainer.engine.held_out import Split, held_out_batches, split


@dataclass(frozen=True)
class Prepared:
    """The examples of a run; ``budget`` is the most tokens an example may have, ``length`` the positions of a row."""

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
        """The held-out examples as batches of ``rows`` rows; none where nothing is held out."""
        return held_out_batches(self.parts.held_out, rows=rows, length=self.length)

    @property
    def account(self) -> dict[str, str]:
        """Where every example of the dataset went, for the model's lineage."""
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


def prepare(
    pairs: Sequence[tuple[str, str]], render: RenderExample, hp: Hyperparameters, max_positions: int
) -> Prepared:
    """Render ``pairs`` (prompt, completion) under the budget of ``max_seq_length`` and the model's ``max_positions``.

    Raises `InvalidInput` naming the hyperparameter when nothing is left to train on, to hold out, or when ``overlong``
    is ``error`` and something is.
    """
    budget = min(hp.max_seq_length, max_positions)
    tokenized = tokenize(pairs, render, max_length=budget, overlong=hp.overlong)
    parts = split(tokenized.examples, hp.eval_fraction, hp.seed) if hp.eval_steps else Split(tokenized.examples, ())
    longest = max(example.length for example in tokenized.examples)
    return Prepared(tokenized, parts, budget, row_length(longest, budget, packing=hp.packing))
