"""Random and grid search with Ray Tune's own generator of variants. Neither looks at results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search.variant_generator import generate_variants

from tunix_rt.contract.hyperparameters import RULES
from tunix_rt.contract.rules import Scalar
from tunix_rt.search_space.space import Parameter, Space
from tunix_rt.tuner.search import Outcome, Parameters, multiples


class ListedSearch:
    """Draws configuration 0, 1, … from one seed; the same for the same space, seed and release of Ray.

    A random search draws every parameter and leaves out those that do not exist beside the others, so that a condition
    changes no other draw. What a normal domain draws outside of its field's range is drawn again, with all others. A
    grid is listed as often as asked, points that are equal once.
    """

    learns = False

    def __init__(self, space: Space, seed: int) -> None:
        self._variants = _grid(space) if space.algorithm == "GRID" else _draws(space, seed)

    def suggest(self, configuration: int) -> Parameters:
        return next(self._variants)

    def adopt(self, configuration: int, parameters: Parameters) -> None:
        """Nothing depends on it."""

    def tell(self, configuration: int, outcome: Outcome) -> None:
        """Nothing depends on it."""


def _draws(space: Space, seed: int) -> Iterator[Parameters]:
    random_state = np.random.RandomState(seed % 2**32)
    config = {parameter.name: domain_of(parameter) for parameter in space.parameters}
    normal = [parameter.name for parameter in space.parameters if parameter.kind == "normal"]
    while True:
        for _resolved, variant in generate_variants({"config": config}, random_state=random_state):
            drawn = {name: plain(value) for name, value in variant["config"].items()}
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


def domain_of(parameter: Parameter) -> Any:
    """Ray Tune's domain for one that is drawn at random."""
    given = parameter.arguments
    match parameter.kind:
        case "choice":
            return tune.choice(list(parameter.values))
        case "uniform":
            return tune.uniform(given["low"], given["high"])
        case "quniform":
            return tune.quniform(*multiples(given["low"], given["high"], given["q"]), given["q"])
        case "loguniform":
            return tune.loguniform(given["low"], given["high"])
        case "randint":
            return tune.randint(int(given["low"]), int(given["high"]))
        case "normal":
            return tune.randn(given["mean"], given["stddev"])
    raise ValueError(f"a random search cannot draw {parameter.name} from {parameter.kind}")


def plain(value: Any) -> Scalar:
    """NumPy scalars as Python ones."""
    found: Scalar = value.item() if isinstance(value, np.generic) else value
    return found
