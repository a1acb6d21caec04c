"""The interface of searches and the outcomes they learn from.

Searches are state machines: the same calls in the same order make the same suggestions, in any process.
"""

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
    """How a trial, or all trials of a configuration, ended. FAILED has no value: it never counts as 0.

    ``value``: for SUCCEEDED the objective; for STOPPED the last reported value, at training step ``step``, with its
    sign changed if its mode is not the objective's; None if nothing was reported.
    """

    kind: Literal["SUCCEEDED", "FAILED", "STOPPED"]
    value: float | None = None
    step: int = 0


class Search(Protocol):
    """Configurations are numbered from 0 in order of suggestion."""

    # Whether suggestions depend on earlier outcomes.
    learns: bool

    def suggest(self, configuration: int) -> Parameters:
        """The parameters of the next configuration, those that exist in it."""

    def adopt(self, configuration: int, parameters: Parameters) -> None:
        """Replace the parameters of the configuration that was suggested last."""

    def tell(self, configuration: int, outcome: Outcome) -> None:
        """How a suggested configuration has ended. To be called once for each."""


def merge(outcomes: Sequence[Outcome]) -> Outcome:
    """A configuration's outcome: the mean of the repeats that succeeded; if there are none, of those stopped early."""
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
