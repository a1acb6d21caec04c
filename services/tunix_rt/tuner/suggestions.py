"""What Ray Tune suggests: every trial's parameters, numbered in order of suggestion. Runs in Ray's driver only.

Random and grid search do not look at results, so the whole list is drawn up front from one seed with the generator that
Ray's BasicVariantGenerator uses: after a crash, the same numbers get the same parameters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ray import tune
from ray.tune.search.variant_generator import generate_variants

from tunix_rt.search_space.rules import Scalar
from tunix_rt.search_space.space import Parameter, Space


def suggest(space: Space, seed: int) -> list[dict[str, Scalar]]:
    """Parameters of trial 0, 1, …; the same for the same space, seed and release of Ray."""
    config = {parameter.name: _domain(parameter, space) for parameter in space.parameters}
    random_state = np.random.RandomState(seed % 2**32)
    suggestions: list[dict[str, Scalar]] = []
    for _ in range(space.num_samples):
        for _resolved, variant in generate_variants({"config": config}, random_state=random_state):
            suggestions.append({name: _plain(value) for name, value in variant["config"].items()})
    return suggestions


def _domain(parameter: Parameter, space: Space) -> Any:
    given = parameter.arguments
    match parameter.kind:
        case "choice" | "grid":
            values = list(parameter.values)
            return tune.grid_search(values) if space.algorithm == "GRID" else tune.choice(values)
        case "uniform":
            return tune.uniform(given["low"], given["high"])
        case "quniform":
            return tune.quniform(given["low"], given["high"], given["q"])
        case "loguniform":
            return tune.loguniform(given["low"], given["high"])
        case "randint":
            return tune.randint(int(given["low"]), int(given["high"]))
        case "normal":
            return tune.randn(given["mean"], given["stddev"])
    raise ValueError(f"{parameter.name} has no domain")


def _plain(value: Any) -> Scalar:
    """NumPy scalars as Python ones."""
    plain: Scalar = value.item() if isinstance(value, np.generic) else value
    return plain
