"""A stored evaluation checked from outside: scored again here and, if asked for, generated again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tunix_rt.errors import FailedPrecondition

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.evidence.regeneration import Flip
    from tunix_rt.evidence.scoring import Difference


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


def verify_evaluation(client: TunixClient, evaluation_id: str, *, concurrency: int = 0) -> Verification:
    """Hold a succeeded evaluation against its own predictions; with ``concurrency`` also against new ones.

    Raises `FailedPrecondition` for one that has no score, was scored by another release, or lacks samples.
    """
    from tunix_rt.evidence import gathering
    from tunix_rt.evidence.regeneration import regenerate
    from tunix_rt.evidence.scoring import misplaced, rescore, scorecard_differences, scorers_of
    from tunix_rt.quality.scorer_plugins import installed_scorers

    evaluation = gathering.succeeded(client, evaluation_id)
    scorers = scorers_of(evaluation.identity.scorer_version, installed_scorers())
    if scorers is None:
        scored_by, here = evaluation.identity.scorer_version, installed_scorers().version
        raise FailedPrecondition(f"{evaluation_id} was scored by {scored_by}, which is not installed; here is {here}")
    items = gathering.evalset_items(client, client.evalsets.get(evaluation.evalset_id)).items
    samples = [gathering.sample_document(found) for found in client.evaluations.items(evaluation_id, page_size=1000)]
    wrong = misplaced(items, samples, evaluation.samples_per_item)
    if wrong is not None:
        raise FailedPrecondition(f"{evaluation_id} {wrong}")
    card = gathering.evaluation_document(evaluation)["scorecard"]
    again = rescore(items, samples, evaluation.threshold, scorers)
    flips = None
    if concurrency:
        generate = gathering.generator(client, evaluation)
        flips = regenerate(items, samples, generate, concurrency=concurrency, on_done=_tell(len(samples)))
    return Verification(
        evaluation_id=evaluation_id,
        primary_score=card.get("primary_score"),
        n_samples=len(samples),
        n_not_generated=again.n_not_generated,
        differences=again.differences,
        scorecard_differences=tuple(scorecard_differences(card, again.scorecard)),
        flips=flips,
    )


def _tell(total: int) -> Any:
    """A listener that says on standard error how far it is, every tenth of the way."""
    step = max(1, total // 10)

    def tell(done: int) -> None:
        if done % step == 0:
            print(f"generated {done} of {total}", file=sys.stderr, flush=True)

    return tell
