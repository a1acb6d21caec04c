"""Sweeps made up for tests of tables and pictures."""

from __future__ import annotations

import random
from typing import Any

import pytest
from google.protobuf import struct_pb2

from tunix_rt.client import Sweep, Trial
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import sweeps_pb2 as pb


def _choice(*values: Any) -> pb.Choice:
    listed = struct_pb2.ListValue()
    listed.extend(values)
    return pb.Choice(values=listed.values)


def _a_sweep(**fields: Any) -> Sweep:
    """Rate, batch, rank, and alpha, which only some ranks have; the objective is the score, the more the better."""
    parameters = [
        pb.Parameter(name="learning_rate", loguniform=pb.LogUniform(low=1e-5, high=1e-2)),
        pb.Parameter(name="per_device_batch_size", choice=_choice(4, 8, 16)),
        pb.Parameter(name="lora.rank", choice=_choice(4, 16)),
        pb.Parameter(
            name="lora.alpha",
            uniform=pb.Uniform(low=8, high=64),
            when=pb.Condition(parameter="lora.rank", values=_choice(16).values),
        ),
        pb.Parameter(name="warmup_steps", randint=pb.RandInt(low=0, high=11)),
    ]
    spec = pb.SweepSpec(
        parameters=parameters,
        algorithm=pb.SEARCH_ALGORITHM_TPE,
        scheduler=pb.TRIAL_SCHEDULER_ASHA,
        objective=pb.Objective(metric="primary_score", mode=pb.OBJECTIVE_MODE_MAX),
        tpe=pb.TpeSettings(startup_trials=10, multivariate=True),
        scheduling=pb.SchedulerSettings(
            metric="eval_loss", mode=pb.OBJECTIVE_MODE_MIN, grace_steps=10, reduction_factor=3, brackets=1
        ),
        repeats=1,
    )
    return Sweep(pb.Sweep(**({"id": "sweep-1", "spec": spec, "state": common_pb2.JOB_STATE_RUNNING} | fields)))


def _some_trials(count: int, seed: int = 0) -> list[Trial]:
    """Two fifths are stopped early, one in nine fails, the last one runs; all else has a score with an interval."""
    dice = random.Random(seed)
    trials: list[Trial] = []
    for number in range(count):
        rate, rank = 10 ** dice.uniform(-5, -2), dice.choice((4, 16))
        parameters = {
            "learning_rate": rate,
            "per_device_batch_size": dice.choice((4, 8, 16)),
            "lora.rank": rank,
            "warmup_steps": dice.randrange(11),
        } | ({"lora.alpha": dice.uniform(8, 64)} if rank == 16 else {})
        trial = pb.Trial(id=f"trial-{number}", number=number, configuration=number, run_id=f"run-{number}", steps=90)
        trial.parameters.update(parameters)
        _end(trial, number, count, 0.5 + 0.1 * dice.random() - 30 * (rate - 5e-3) ** 2 * 300)
        trials.append(Trial(trial))
    return trials


def _end(trial: pb.Trial, number: int, count: int, score: float) -> None:
    if number == count - 1:
        trial.state = common_pb2.JOB_STATE_RUNNING
    elif number % 9 == 4:
        trial.state = common_pb2.JOB_STATE_FAILED
    elif number % 5 in (1, 3):
        trial.state, trial.reason = common_pb2.JOB_STATE_CANCELLED, common_pb2.REASON_EARLY_STOPPED
    else:
        trial.state, trial.objective = common_pb2.JOB_STATE_SUCCEEDED, score
        trial.ci_low, trial.ci_high = score - 0.08, score + 0.07


@pytest.fixture
def choice() -> Any:
    return _choice


@pytest.fixture
def a_sweep() -> Any:
    return _a_sweep


@pytest.fixture
def some_trials() -> Any:
    return _some_trials
