"""The demo's results, for people (`report`) and machines (``--json``)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from tunix_rt.cli.demo.plan import DemoPlan


@dataclass(frozen=True)
class Score:
    """A scorecard's figures, and what each item got: ``items`` maps an item's id to (correctness, prediction)."""

    evaluation_id: str
    primary_score: float
    ci_low: float
    ci_high: float
    n_scored: int
    n_items: int
    coverage: float
    metric_means: dict[str, float]
    items: dict[str, tuple[float | None, str]] = field(repr=False)


@dataclass(frozen=True)
class Trained:
    """A run: time in seconds, first and last training loss, and its score."""

    run_id: str
    name: str
    seconds: float
    loss_first: float
    loss_last: float
    model_id: str
    model_digest: str
    score: Score


@dataclass(frozen=True)
class Decision:
    """A gate decision of candidate against baseline."""

    candidate: str
    baseline: str
    verdict: str
    delta: float
    lower_bound: float | None
    explanation: str


@dataclass(frozen=True)
class Compared:
    """B − A on the same items, with its 95 % interval."""

    delta: float
    ci_low: float
    ci_high: float
    p_value: float
    regressions: int
    fixes: int
    same: int


@dataclass(frozen=True)
class TrialResult:
    """One trial of the sweep."""

    number: int
    state: str
    parameters: dict[str, Any]
    objective: float | None


@dataclass(frozen=True)
class Swept:
    """The sweep: its trials and the number of the best."""

    sweep_id: str
    seconds: float
    trials: list[TrialResult]
    best: int | None


@dataclass(frozen=True)
class DemoResult:
    """Everything."""

    model: str
    seed: int
    base: Score | None
    a: Trained
    b: Trained
    gate_b_against_a: Decision
    gate_a_against_b: Decision
    comparison: Compared
    sweep: Swept
    question: str
    answer: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON values."""
        return asdict(self)


def shortfalls(result: DemoResult, plan: DemoPlan) -> list[str]:
    """Requirements of the plan that the result misses, as sentences; empty if none."""
    found = []
    succeeded = sum(trial.state == "SUCCEEDED" for trial in result.sweep.trials)
    if succeeded < plan.sweep.trials:
        found.append(f"{succeeded} of {plan.sweep.trials} trials succeeded")
    if plan.expectation is None:
        return found
    b = result.b.score.primary_score
    if b < plan.expectation.min_primary_score:
        found.append(f"B's primary_score {b:.3f} is under {plan.expectation.min_primary_score}")
    if result.comparison.ci_low <= 0:
        found.append(f"the 95 % interval of B − A begins at {result.comparison.ci_low:+.3f} and does not exclude 0")
    for decision, wanted in ((result.gate_b_against_a, "PASS"), (result.gate_a_against_b, "FAIL")):
        if decision.verdict != wanted:
            found.append(f"gate {decision.candidate}/{decision.baseline} says {decision.verdict}, not {wanted}")
    return found
