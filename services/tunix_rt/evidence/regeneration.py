"""Answers generated again in another order and with other neighbours: whatever differs is a flip.

The same model, evalset and generation config give byte-identical predictions whatever the batch, the load or the order;
this finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tunix_rt.evidence.scoring import Sample
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.scorers import PRIMARY_METRIC
from tunix_rt.quality.scoring import score_item

Generate = Callable[[EvalItem, int], tuple[str, str]]
"""Of an item's sample: its text, and why it ended."""


@dataclass(frozen=True)
class Flip:
    """A sample whose text came out otherwise. ``position`` is the first character that differs; scores are of
    answer_correctness, None where there is none."""

    item_id: str
    sample_index: int
    position: int
    stored: str
    generated: str
    stored_score: float | None
    generated_score: float | None

    @property
    def score_differs(self) -> bool:
        """Whether the flip changes the answer's score, too."""
        return self.stored_score != self.generated_score


def regenerate(
    items: Sequence[EvalItem],
    samples: Sequence[Sample],
    generate: Generate,
    *,
    concurrency: int,
    on_done: Callable[[int], object] = lambda done: None,
) -> list[Flip]:
    """Every flip, in the order of ``samples``; those in which nothing was generated are left out.

    ``generate(item, sample index)`` is called from ``concurrency`` threads, the last sample first; ``on_done`` hears
    how many are done.
    """
    by_id = {item.id: item for item in items}
    wanted = [sample for sample in reversed(samples) if sample["prediction"] or sample["outcome"] != "ERRORED"]
    flips: list[Flip] = []
    with ThreadPoolExecutor(concurrency) as threads:
        texts = threads.map(lambda s: generate(by_id[s["item_id"]], s["sample_index"]), wanted)
        for done, (sample, (text, reason)) in enumerate(zip(wanted, texts, strict=True), start=1):
            on_done(done)
            # As the registry stores it.
            text = text.replace("\x00", "\ufffd")
            if text != sample["prediction"]:
                flips.append(_flip(by_id[sample["item_id"]], sample, text, reason))
    return flips[::-1]


def _flip(item: EvalItem, sample: Sample, text: str, finish_reason: str) -> Flip:
    stored = sample["prediction"]
    position = next(
        (at for at, (a, b) in enumerate(zip(stored, text, strict=False)) if a != b), min(len(stored), len(text))
    )
    return Flip(
        item_id=item.id,
        sample_index=sample["sample_index"],
        position=position,
        stored=stored,
        generated=text,
        stored_score=sample["metrics"].get(PRIMARY_METRIC),
        generated_score=score_item(item, text, finish_reason=finish_reason).metrics.get(PRIMARY_METRIC),
    )
