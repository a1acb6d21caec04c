"""Optuna's tree-structured Parzen estimator, through Ray Tune's `OptunaSearch`."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import optuna
from ray.tune.search.optuna import OptunaSearch

from tunix_rt.contract.rules import Scalar
from tunix_rt.search_space.space import Parameter, Space
from tunix_rt.tuner.plan import Mode, Tpe
from tunix_rt.tuner.search import Outcome, Parameters, multiples

_VALUE = "value"


class TpeSearch:
    """Defined by run, so that a parameter is suggested only where it exists.

    The sampler draws from one seed and knows what it was told, in order; nothing else enters into its suggestions.
    """

    learns = True

    def __init__(self, space: Space, seed: int, mode: Mode, settings: Tpe) -> None:
        self._space = space
        self._by_name = {parameter.name: parameter for parameter in space.parameters}
        self._ids: dict[int, str] = {}
        conditional = any(parameter.when for parameter in space.parameters)
        # Grouping models parameters jointly where they exist jointly; all that it asks is that we know it may change.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed % 2**32,
                n_startup_trials=settings.startup_trials,
                multivariate=settings.multivariate,
                group=settings.multivariate and conditional,
                # Trials that still run count as bad, so that those beside them are looked for elsewhere.
                constant_liar=True,
            )
        # It warns of every parameter that exists in some trials only.
        optuna.logging.set_verbosity(logging.ERROR)
        self._search = OptunaSearch(space=self._define, metric=_VALUE, mode=mode, sampler=sampler)

    def suggest(self, configuration: int) -> Parameters:
        self._ids[configuration] = str(configuration)
        return self._suggest(configuration)

    def adopt(self, configuration: int, parameters: Parameters) -> None:
        # What was suggested instead has no result: a failed trial teaches the sampler nothing.
        self._search.on_trial_complete(self._ids[configuration], error=True)
        self._ids[configuration] = f"{configuration}-stored"
        study: Any = self._search._ot_study
        study.enqueue_trial(dict(parameters))
        self._suggest(configuration)

    def tell(self, configuration: int, outcome: Outcome) -> None:
        trial_id = self._ids.pop(configuration)
        if outcome.kind == "SUCCEEDED":
            self._search.on_trial_complete(trial_id, {_VALUE: outcome.value})
            return
        if outcome.kind == "STOPPED" and outcome.value is not None:
            self._search.on_trial_result(trial_id, {_VALUE: outcome.value, "training_iteration": outcome.step})
        # Without a result: failed, or else pruned, with what it last reported.
        self._search.on_trial_complete(trial_id, error=outcome.kind == "FAILED")

    def _suggest(self, configuration: int) -> Parameters:
        found = self._search.suggest(self._ids[configuration])
        assert found is not None
        return self._space.active(found)

    def _define(self, trial: Any) -> None:
        found: dict[str, Scalar] = {}
        for parameter in self._space.parameters:
            self._resolve(parameter, trial, found)

    def _resolve(self, parameter: Parameter, trial: Any, found: dict[str, Scalar]) -> None:
        """Suggest ``parameter`` if it exists, what it depends on before."""
        if parameter.name in found:
            return
        when = parameter.when
        if when is not None:
            self._resolve(self._by_name[when.parameter], trial, found)
            if found.get(when.parameter) not in when.values:
                return
        found[parameter.name] = _draw(parameter, trial)


def _draw(parameter: Parameter, trial: Any) -> Scalar:
    name, given = parameter.name, parameter.arguments
    drawn: Scalar
    match parameter.kind:
        case "choice":
            drawn = trial.suggest_categorical(name, list(parameter.values))
        case "uniform":
            drawn = trial.suggest_float(name, given["low"], given["high"])
        case "quniform":
            drawn = trial.suggest_float(name, *multiples(given["low"], given["high"], given["q"]), step=given["q"])
        case "loguniform":
            drawn = trial.suggest_float(name, given["low"], given["high"], log=True)
        case "randint":
            drawn = trial.suggest_int(name, int(given["low"]), int(given["high"]) - 1)
        case _:
            raise ValueError(f"TPE cannot model {name}, which is drawn from {parameter.kind}")
    return drawn
