"""Searches as state machines: the same calls in the same order make the same suggestions, in any process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tunix_rt.contract.rules import Scalar
from tunix_rt.tuner.plan import Plan
from tunix_rt.tuner.trials import Trial

Parameters = Mapping[str, Scalar]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended, or the trials of a configuration. A failed one has no value, and never is one of 0.

    ``value`` is the objective of one that SUCCEEDED; of one that was STOPPED what it last reported, at training step
    ``step``, turned so that the objective's mode holds for it; None: it had reported nothing.
    """

    kind: Literal["SUCCEEDED", "FAILED", "STOPPED"]
    value: float | None = None
    step: int = 0


class Search(Protocol):
    """Configurations are numbered from 0 in order of suggestion."""

    # Whether suggestions depend on what was told.
    learns: bool

    def suggest(self, configuration: int) -> Parameters:
        """The parameters of the next configuration, those that exist in it."""

    def adopt(self, configuration: int, parameters: Parameters) -> None:
        """Take ``parameters`` for those of the configuration that was suggested last."""

    def tell(self, configuration: int, outcome: Outcome) -> None:
        """How a configuration that was suggested has ended; once for each."""


def merge(outcomes: Sequence[Outcome]) -> Outcome:
    """Of a configuration, from those of its repeats: the mean of those that succeeded, else of those stopped early."""
    for kind in ("SUCCEEDED", "STOPPED"):
        found = [outcome for outcome in outcomes if outcome.kind == kind]
        values = [outcome.value for outcome in found if outcome.value is not None]
        if found:
            mean = math.fsum(values) / len(values) if values else None
            return Outcome(found[0].kind, mean, max(outcome.step for outcome in found))
    return Outcome("FAILED")


def outcome_of(trial: Trial, plan: Plan) -> Outcome | None:
    """What a search learns from a stored trial; None if it has not ended.

    A trial that was cancelled by anybody but the scheduler has failed.
    """
    if not trial.ended:
        return None
    if trial.state == "SUCCEEDED" and trial.objective is not None and math.isfinite(trial.objective):
        return Outcome("SUCCEEDED", trial.objective)
    if trial.reason == "EARLY_STOPPED" and plan.scheduling is not None:
        value = trial.reported_value
        if value is None or not math.isfinite(value):
            return Outcome("STOPPED")
        # The reported metric may be a loss where the objective is a score.
        return Outcome("STOPPED", value if plan.scheduling.mode == plan.mode else -value, trial.reported_step)
    return Outcome("FAILED")
