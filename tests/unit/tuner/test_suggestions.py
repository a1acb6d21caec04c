from __future__ import annotations

import itertools
import json

from tunix_rt.search_space.space import Parameter, Space
from tunix_rt.tuner.job import Job
from tunix_rt.tuner.suggestions import suggest
from tunix_rt.tuner.trials import Lease

EVERYTHING = Space(
    (
        Parameter("learning_rate", "loguniform", (), {"low": 1e-4, "high": 1e-2}),
        Parameter("weight_decay", "uniform", (), {"low": 0.0, "high": 0.1}),
        Parameter("warmup_steps", "randint", (), {"low": 2.0, "high": 5.0}),
        Parameter("max_grad_norm", "quniform", (), {"low": 0.5, "high": 2.0, "q": 0.25}),
        Parameter("num_epochs", "normal", (), {"mean": 3.0, "stddev": 0.5}),
        Parameter("per_device_batch_size", "choice", (4, 8, 16)),
        Parameter("packing", "choice", (True, False)),
        Parameter("lr_scheduler_type", "choice", ("linear", "cosine")),
    ),
    "RANDOM",
    40,
)


def test_the_same_seed_suggests_the_same_trials() -> None:
    assert suggest(EVERYTHING, 3) == suggest(EVERYTHING, 3)
    assert suggest(EVERYTHING, 3) != suggest(EVERYTHING, 4)


def test_more_samples_begin_with_the_same_trials() -> None:
    fewer = Space(EVERYTHING.parameters, "RANDOM", 7)
    assert suggest(EVERYTHING, 3)[:7] == suggest(fewer, 3)


def test_every_value_lies_in_its_domain_and_is_plain_python() -> None:
    suggestions = suggest(EVERYTHING, 0)
    assert len(suggestions) == 40
    for trial in suggestions:
        assert 1e-4 <= float(trial["learning_rate"]) < 1e-2
        assert 0.0 <= float(trial["weight_decay"]) < 0.1
        assert trial["warmup_steps"] in (2, 3, 4)
        assert float(trial["max_grad_norm"]) in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
        assert trial["per_device_batch_size"] in (4, 8, 16)
        assert trial["lr_scheduler_type"] in ("linear", "cosine")
        assert {type(value) for value in trial.values()} <= {int, float, str, bool}
    assert {trial["packing"] for trial in suggestions} == {True, False}
    # On a logarithmic scale, half of the draws lie below the geometric mean: 20 ± 4 standard deviations (12.6).
    below = sum(float(trial["learning_rate"]) < 1e-3 for trial in suggestions)
    assert 8 <= below <= 32
    json.dumps(suggestions)


def test_a_grid_is_every_combination_as_often_as_asked() -> None:
    space = Space(
        (Parameter("per_device_batch_size", "grid", (4, 8)), Parameter("learning_rate", "choice", (0.1, 0.2, 0.3))),
        "GRID",
        2,
    )
    suggestions = suggest(space, 0)
    assert space.trial_count == len(suggestions) == 12
    wanted = sorted([*itertools.product((4, 8), (0.1, 0.2, 0.3))] * 2)
    assert sorted((trial["per_device_batch_size"], trial["learning_rate"]) for trial in suggestions) == wanted


def test_a_job_survives_the_way_to_the_child() -> None:
    job = Job(Lease("sweep-1", "att-1", 2), EVERYTHING, 9, "min", 3, "/tmp/x", None, 1)
    assert Job.of_line(job.line()) == job
    assert job.line().count(b"\n") == 1
