"""A stored evaluation scored again here and, if asked for, generated again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunix_rt.client.clients import TunixClient
from tunix_rt.client.resources.evaluations import Evaluation
from tunix_rt.client.workflows.evidence import evalset_items, evaluation_document, generator, succeeded
from tunix_rt.errors import FailedPrecondition
from tunix_rt.evidence.former_scores import former_differences, is_former
from tunix_rt.evidence.regeneration import Flip, regenerate
from tunix_rt.evidence.scoring import Difference, Sample, misplaced, rescore, scorecard_differences, scorers_of
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.methods import method_of
from tunix_rt.quality.scorer_plugins import installed_scorers


@dataclass(frozen=True)
class Verification:
    """What differs from what is stored; ``flips`` is None where nothing was generated again.

    ``not_scored_again`` says why the predictions were not scored again, and the scorecard was made of the stored
    scores; "" where they were.
    """

    evaluation_id: str
    primary_score: float | None
    n_samples: int
    n_not_generated: int
    differences: Sequence[Difference]
    scorecard_differences: Sequence[str]
    flips: Sequence[Flip] | None
    not_scored_again: str = ""

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
    for an evaluation that has no score, was scored by scorers that are not here, or lacks samples. One by a former
    scorer version, whose rules are gone, is not scored again.
    """
    evaluation = succeeded(client, evaluation_id)
    former = is_former(evaluation.identity.scorer_version)
    scorers = scorers_of(evaluation.identity.scorer_version, installed_scorers())
    if scorers is None and not former:
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
    if scorers is None:
        return _of_former(evaluation, card, samples, items)
    version = card.get("statistics_version")
    method = method_of(version)
    if method is None:
        raise FailedPrecondition(f"{evaluation_id} has statistics of version {version}, which a later release knows")
    again = rescore(items, samples, evaluation.threshold, scorers, method)
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


def _of_former(
    evaluation: Evaluation, card: Mapping[str, Any], samples: Sequence[Sample], items: Sequence[EvalItem]
) -> Verification:
    version, here = evaluation.identity.scorer_version, installed_scorers().version
    return Verification(
        evaluation_id=evaluation.id,
        primary_score=card.get("primary_score"),
        n_samples=len(samples),
        n_not_generated=0,
        differences=(),
        scorecard_differences=tuple(former_differences(items, samples, card)),
        flips=None,
        not_scored_again=f"scored by {version}, whose rules this release ({here}) does not have; "
        f"`tunix-rt evaluations rescore {evaluation.id}` scores the stored predictions by those that it has",
    )
