"""A stored evaluation scored again here and, if asked for, generated again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunix_rt.client.clients import TunixClient
from tunix_rt.client.workflows.evidence import evalset_items, evaluation_document, generator, succeeded
from tunix_rt.errors import FailedPrecondition
from tunix_rt.evidence.regeneration import Flip, regenerate
from tunix_rt.evidence.scoring import Difference, misplaced, rescore, scorecard_differences, scorers_of
from tunix_rt.quality.scorer_plugins import installed_scorers


@dataclass(frozen=True)
class Verification:
    """What differs from what is stored; ``flips`` is None where nothing was generated again."""

    evaluation_id: str
    primary_score: float | None
    n_samples: int
    n_not_generated: int
    differences: Sequence[Difference]
    scorecard_differences: Sequence[str]
    flips: Sequence[Flip] | None

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not (self.differences or self.scorecard_differences or self.flips)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        flips = None if self.flips is None else [asdict(f) | {"score_differs": f.score_differs} for f in self.flips]
        return asdict(self) | {"ok": self.ok, "flips": flips}


def verify_evaluation(
    client: TunixClient,
    evaluation_id: str,
    *,
    concurrency: int = 0,
    on_generated: Callable[[int, int], object] = lambda done, total: None,
) -> Verification:
    """Compare a succeeded evaluation with its own predictions; with ``concurrency`` also with new ones.

    ``on_generated`` is called with the number of samples generated again and the total. Raises `FailedPrecondition`
    for an evaluation that has no score, was scored by another release, or lacks samples.
    """
    evaluation = succeeded(client, evaluation_id)
    scorers = scorers_of(evaluation.identity.scorer_version, installed_scorers())
    if scorers is None:
        scored_by, here = evaluation.identity.scorer_version, installed_scorers().version
        raise FailedPrecondition(
            f"{evaluation_id} was scored by {scored_by}, which is not installed; installed is {here}"
        )
    items = evalset_items(client, client.evalsets.get(evaluation.evalset_id)).items
    samples = [result.to_dict() for result in client.evaluations.items(evaluation_id, page_size=1000)]
    wrong = misplaced(items, samples, evaluation.samples_per_item)
    if wrong is not None:
        raise FailedPrecondition(f"{evaluation_id} {wrong}")
    card = evaluation_document(evaluation)["scorecard"]
    again = rescore(items, samples, evaluation.threshold, scorers)
    flips = None
    if concurrency:
        generate, total = generator(client, evaluation), len(samples)
        flips = regenerate(
            items, samples, generate, concurrency=concurrency, on_done=lambda done: on_generated(done, total)
        )
    return Verification(
        evaluation_id=evaluation_id,
        primary_score=card.get("primary_score"),
        n_samples=len(samples),
        n_not_generated=again.n_not_generated,
        differences=again.differences,
        scorecard_differences=tuple(scorecard_differences(card, again.scorecard)),
        flips=flips,
    )
