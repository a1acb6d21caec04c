"""How much each parameter matters for a sweep's objective: conditional PED-ANOVA, by Optuna.

Pure: the result does not depend on the order of the trials. Optuna is imported on first use.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from tunix_rt.errors import FailedPrecondition
from tunix_rt.search_space.space import Parameter

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MIN_TRIALS: Final = 4
# Trials that count as good: the best tenth, as in PED-ANOVA, but at least five and at most half.
_GOOD_SHARE: Final = 0.1
_GOOD_TRIALS: Final = 5
_LISTED: Final = ("choice", "grid")


@dataclass(frozen=True)
class ScoredTrial:
    """A trial that has an objective; ``parameters`` holds only those that the trial has."""

    number: int
    parameters: Mapping[str, Any]
    objective: float


@dataclass(frozen=True)
class Importance:
    """``share`` of the explained variation, in [0, 1]; the shares of a sweep sum to 1."""

    name: str
    share: float


def importance(
    dimensions: Sequence[Parameter], trials: Sequence[ScoredTrial], mode: Literal["MAX", "MIN"]
) -> list[Importance]:
    """The share of each of ``dimensions`` in what distinguishes good trials from all trials, most important first.

    PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255): the Pearson divergence of a parameter's density among the good
    trials from its density among all. Good are the best tenth, at least five and at most half of them, since densities
    of one or two trials say nothing. A parameter that only some trials have is treated as in conditional PED-ANOVA
    (arXiv 2601.20800): its divergence is that within the trials that have it, weighted by how often good trials have
    it; that a trial has it at all is the merit of the parameter on which it depends. Domains are widened where a trial
    lies outside. Equal shares when nothing distinguishes good trials from others.

    Raises `FailedPrecondition` when fewer than 4 trials have a finite objective.
    """
    counted = [trial for trial in trials if math.isfinite(trial.objective)]
    if len(counted) < MIN_TRIALS:
        raise FailedPrecondition(
            f"parameter importance needs at least {MIN_TRIALS} trials with an objective; "
            f"{len(counted)} of {len(trials)} have one"
        )
    counted.sort(key=lambda trial: (trial.number, _label(dict(trial.parameters)), trial.objective))
    divergences = _divergences(dimensions, counted, mode)
    total = math.fsum(divergences.values())
    shares = {
        dimension.name: divergences.get(dimension.name, 0.0) / total if total > 0 else 1 / len(dimensions)
        for dimension in dimensions
    }
    ordered = sorted(shares.items(), key=lambda share: (-share[1], share[0]))
    return [Importance(name, share) for name, share in ordered]


def _divergences(dimensions: Sequence[Parameter], trials: Sequence[ScoredTrial], mode: str) -> dict[str, float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    domains = {dimension.name: _domain(dimension, trials) for dimension in dimensions}
    study = optuna.create_study(direction="maximize" if mode == "MAX" else "minimize")
    for trial in trials:
        known = {name: value for name, value in trial.parameters.items() if name in domains}
        listed = optuna.distributions.CategoricalDistribution
        study.add_trial(
            optuna.trial.create_trial(
                params={name: _label(v) if isinstance(domains[name], listed) else v for name, v in known.items()},
                distributions={name: domains[name] for name in known},
                value=trial.objective,
            )
        )
    good = min(0.5, max(_GOOD_SHARE, _GOOD_TRIALS / len(trials)))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=good)
    with warnings.catch_warnings():
        # It warns of a condition that holds in fewer than two trials, whose parameter then has no share.
        warnings.simplefilter("ignore", UserWarning)
        return evaluator.evaluate(study)


def _domain(dimension: Parameter, trials: Sequence[ScoredTrial]) -> BaseDistribution:
    """The domain as Optuna has it, with every value that a trial had in it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    seen = [trial.parameters[dimension.name] for trial in trials if dimension.name in trial.parameters]
    if dimension.kind in _LISTED or any(isinstance(value, bool | str) for value in seen):
        return CategoricalDistribution(sorted({_label(value) for value in [*dimension.values, *seen]}))
    given = dimension.arguments
    ends = [] if dimension.kind == "normal" else [given["low"], given["high"] - (dimension.kind == "randint")]
    numbers = [float(value) for value in [*ends, *seen]] or [given["mean"]]
    low, high = min(numbers), max(numbers)
    if dimension.kind == "randint" and all(number.is_integer() for number in numbers):
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=dimension.kind == "loguniform" and low > 0)


def _label(value: object) -> str:
    """A value as text; 8 and 8.0 are one value."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)
