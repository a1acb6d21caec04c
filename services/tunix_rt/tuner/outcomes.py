"""What a search learns from a stored trial."""

from __future__ import annotations

import math

from tunix_rt.tuner.course import Stored, Suggestion
from tunix_rt.tuner.plan import Plan
from tunix_rt.tuner.search import Outcome
from tunix_rt.tuner.trials import Trial


def outcome_of(trial: Trial, plan: Plan) -> Outcome | None:
    """None: it has not ended. One that was cancelled by anybody but the scheduler has failed."""
    if not trial.ended:
        return None
    if trial.state == "SUCCEEDED" and trial.objective is not None and math.isfinite(trial.objective):
        return Outcome("SUCCEEDED", trial.objective)
    if trial.reason == "EARLY_STOPPED" and plan.scheduling is not None:
        value = trial.reported_value
        if value is None or not math.isfinite(value):
            return Outcome("STOPPED")
        # What is reported may be a loss, where the objective is a score.
        return Outcome("STOPPED", value if plan.scheduling.mode == plan.mode else -value, trial.reported_step)
    return Outcome("FAILED")


def stored(trial: Trial, plan: Plan) -> Stored:
    """As a course replays it."""
    return Stored(Suggestion(trial.number, trial.parameters, trial.observed), outcome_of(trial, plan))
