"""Random, grid and TPE search, as `search.Search`. Imports Ray Tune and Optuna, which takes seconds."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import optuna
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.variant_generator import generate_variants

from tunix_rt.contract.hyperparameters import RULES
from tunix_rt.contract.rules import Scalar
from tunix_rt.search_space.space import Parameter, Space
from tunix_rt.tuner.course import Course
from tunix_rt.tuner.plan import Mode, Plan, Tpe
from tunix_rt.tuner.search import Outcome, Parameters, Search

_VALUE = "value"


def build_search(plan: Plan) -> Search:
    """A search in its first state."""
    if plan.tpe is None:
        return VariantSearch(plan.space, plan.seed)
    return TpeSearch(plan.space, plan.seed, plan.mode, plan.tpe)


def build_course(plan: Plan) -> Course:
    """A course at its start. Its order of results is fixed if no trial is stopped early."""
    window = plan.max_concurrent if plan.scheduling is None else None
    return Course(build_search(plan), plan.space.configuration_count, plan.space.repeats, window)


class VariantSearch:
    """Random and grid search with Ray Tune's variant generator. Ignores results.

    The same space, seed and release of Ray give the same configurations. Random search draws every parameter, then
    leaves out those whose condition does not hold, so that a condition changes no other draw. A configuration in which
    a normal domain leaves its field's range is drawn again. Grid search repeats the grid, in which equal points appear
    once.
    """

    learns = False

    def __init__(self, space: Space, seed: int) -> None:
        self._variants = _grid(space) if space.algorithm == "GRID" else _draws(space, seed)

    def suggest(self, configuration: int) -> Parameters:
        return next(self._variants)

    def adopt(self, configuration: int, parameters: Parameters) -> None:
        """No effect."""

    def tell(self, configuration: int, outcome: Outcome) -> None:
        """No effect."""


class TpeSearch:
    """Optuna's tree-structured Parzen estimator, through Ray Tune's `OptunaSearch`.

    Uses Optuna's define-by-run interface, so that a parameter is suggested only where it exists. Suggestions depend
    only on the seed and on the outcomes passed to `tell`, in order.
    """

    learns = True

    def __init__(self, space: Space, seed: int, mode: Mode, settings: Tpe) -> None:
        self._space = space
        self._by_name = {parameter.name: parameter for parameter in space.parameters}
        self._ids: dict[int, str] = {}
        conditional = any(parameter.when for parameter in space.parameters)
        # ``group`` models parameters jointly where they exist jointly; Optuna warns that it is experimental.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed % 2**32,
                n_startup_trials=settings.startup_trials,
                multivariate=settings.multivariate,
                group=settings.multivariate and conditional,
                # Running trials count as bad, so that concurrent suggestions differ.
                constant_liar=True,
            )
        # Optuna warns of every parameter that only some trials have.
        optuna.logging.set_verbosity(logging.ERROR)
        self._search = OptunaSearch(space=self._define, metric=_VALUE, mode=mode, sampler=sampler)

    def suggest(self, configuration: int) -> Parameters:
        self._ids[configuration] = str(configuration)
        return self._suggest(configuration)

    def adopt(self, configuration: int, parameters: Parameters) -> None:
        # The discarded suggestion counts as failed, which the sampler ignores.
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
        # No result: failed, or else pruned at the last reported value.
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
        """Suggest ``parameter`` if it exists, after the parameter it depends on."""
        if parameter.name in found:
            return
        when = parameter.when
        if when is not None:
            self._resolve(self._by_name[when.parameter], trial, found)
            if found.get(when.parameter) not in when.values:
                return
        found[parameter.name] = _draw(parameter, trial)


def _draws(space: Space, seed: int) -> Iterator[Parameters]:
    random_state = np.random.RandomState(seed % 2**32)
    config = {parameter.name: ray_domain(parameter) for parameter in space.parameters}
    normal = [parameter.name for parameter in space.parameters if parameter.kind == "normal"]
    while True:
        for _resolved, variant in generate_variants({"config": config}, random_state=random_state):
            drawn = {name: to_python(value) for name, value in variant["config"].items()}
            if all(RULES[name].problem(drawn[name]) is None for name in normal):
                yield space.active(drawn)


def _grid(space: Space) -> Iterator[Parameters]:
    config = {parameter.name: tune.grid_search(list(parameter.values)) for parameter in space.parameters}
    while True:
        seen: set[tuple[tuple[str, Scalar], ...]] = set()
        for _resolved, variant in generate_variants({"config": config}):
            point = space.active(variant["config"])
            key = tuple(point.items())
            if key not in seen:
                seen.add(key)
                yield point


def ray_domain(parameter: Parameter) -> Any:
    """Ray Tune's domain of a parameter that is drawn at random."""
    given = parameter.arguments
    match parameter.kind:
        case "choice":
            return tune.choice(list(parameter.values))
        case "uniform":
            return tune.uniform(given["low"], given["high"])
        case "quniform":
            return tune.quniform(*quantized_bounds(given["low"], given["high"], given["q"]), given["q"])
        case "loguniform":
            return tune.loguniform(given["low"], given["high"])
        case "randint":
            return tune.randint(int(given["low"]), int(given["high"]))
        case "normal":
            return tune.randn(given["mean"], given["stddev"])
    raise ValueError(f"random search does not support the domain {parameter.kind} of {parameter.name}")


def to_python(value: Any) -> Scalar:
    """A NumPy scalar as a Python one."""
    found: Scalar = value.item() if isinstance(value, np.generic) else value
    return found


def quantized_bounds(low: float, high: float, q: float) -> tuple[float, float]:
    """The first and the last multiple of ``q`` in [low, high]: the ends of a quniform domain in Ray Tune and Optuna."""
    close = 1e-9
    return math.ceil(low / q - close) * q, math.floor(high / q + close) * q


def _draw(parameter: Parameter, trial: Any) -> Scalar:
    name, given = parameter.name, parameter.arguments
    drawn: Scalar
    match parameter.kind:
        case "choice":
            drawn = trial.suggest_categorical(name, list(parameter.values))
        case "uniform":
            drawn = trial.suggest_float(name, given["low"], given["high"])
        case "quniform":
            drawn = trial.suggest_float(
                name, *quantized_bounds(given["low"], given["high"], given["q"]), step=given["q"]
            )
        case "loguniform":
            drawn = trial.suggest_float(name, given["low"], given["high"], log=True)
        case "randint":
            drawn = trial.suggest_int(name, int(given["low"]), int(given["high"]) - 1)
        case _:
            raise ValueError(f"TPE does not support the domain {parameter.kind} of {name}")
    return drawn
