from __future__ import annotations

import pytest
from google.protobuf import struct_pb2

from tunix_rt.search_space.space import Condition, Parameter, Space
from tunix_rt.tuner.course import Stored, Suggestion
from tunix_rt.tuner.driver_process import Job, extension_line, extension_of_line
from tunix_rt.tuner.plan import Plan, Scheduling, Tpe, read_plan
from tunix_rt.tuner.search import Outcome, outcome_of
from tunix_rt.tuner.trials import Trial
from tunix_rt.v1 import sweeps_pb2 as pb
from tunix_rt.worker.jobs import Lease

TRUE = struct_pb2.Value(bool_value=True)


def listed(*numbers: float) -> pb.Choice:
    return pb.Choice(values=[struct_pb2.Value(number_value=number) for number in numbers])


ASHA = Scheduling("ASHA", "min", 10, 3.0, 1, 3, 90)
PLAN = Plan(Space((), "TPE", 20, 2), 9, "max", 3, Tpe(10, True), ASHA)
SPEC = pb.SweepSpec(
    parameters=[
        pb.Parameter(name="learning_rate", uniform=pb.Uniform(low=0.01, high=0.1)),
        pb.Parameter(name="max_steps", randint=pb.RandInt(low=50, high=200)),
        pb.Parameter(name="lora.rank", choice=listed(4, 8), when=pb.Condition(parameter="packing", values=[TRUE])),
        pb.Parameter(name="packing", choice=pb.Choice(values=[TRUE, struct_pb2.Value(bool_value=False)])),
    ],
    algorithm=pb.SEARCH_ALGORITHM_TPE,
    scheduler=pb.TRIAL_SCHEDULER_ASHA,
    num_samples=12,
    repeats=2,
    max_concurrent_trials=4,
    seed=2**53 + 1,
    objective=pb.Objective(metric="primary_score", mode=pb.OBJECTIVE_MODE_MAX),
    tpe=pb.TpeSettings(startup_trials=5, multivariate=False),
    scheduling=pb.SchedulerSettings(
        metric="eval_loss", mode=pb.OBJECTIVE_MODE_MIN, grace_steps=11, reduction_factor=0.1 + 0.2, brackets=2
    ),
    trial_resources={"GPU": 1.0},
)
SPEC.base.hyperparameters.max_steps = 100


def test_the_lines_to_the_driver_are_read_as_they_were_written() -> None:
    job = Job(Lease("sweep-1", "att-1", 2), SPEC, 3, "/tmp/x", None, 1)
    assert Job.of_line(job.line()) == job
    assert extension_of_line(extension_line(40)) == 40
    for line in (job.line(), extension_line(40)):
        assert line.count(b"\n") == 1


def trial(state: str, **found: object) -> Trial:
    return Trial(0, {}, (), state, **found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stored_trial", "expected"),
    [
        (trial("RUNNING", reported_value=2.0, reported_step=10), None),
        (trial("CANCELLING", reason="EARLY_STOPPED", reported_value=2.0, reported_step=10), None),
        (trial("SUCCEEDED", objective=0.5), Outcome("SUCCEEDED", 0.5)),
        (trial("SUCCEEDED", objective=0.0), Outcome("SUCCEEDED", 0.0)),
        (trial("SUCCEEDED"), Outcome("FAILED")),
        (trial("SUCCEEDED", objective=float("nan")), Outcome("FAILED")),
        (trial("FAILED", reason="DIVERGED"), Outcome("FAILED")),
        # The scheduler's metric is a loss, the objective a score.
        (
            trial("CANCELLED", reason="EARLY_STOPPED", reported_value=2.0, reported_step=10),
            Outcome("STOPPED", -2.0, 10),
        ),
        (trial("CANCELLED", reason="EARLY_STOPPED"), Outcome("STOPPED")),
        (trial("CANCELLED", reason="USER_CANCELLED", reported_value=2.0, reported_step=10), Outcome("FAILED")),
    ],
)
def test_what_a_search_learns_from_a_trial(stored_trial: Trial, expected: Outcome | None) -> None:
    assert outcome_of(stored_trial, PLAN) == expected
    assert Stored.of(stored_trial, PLAN).outcome == expected


def test_a_stored_trial_is_replayed_with_what_the_search_knew() -> None:
    found = Trial(4, {"learning_rate": 0.001, "packing": False}, (2, 0), "SUCCEEDED", objective=0.75)
    suggestion = Suggestion(4, {"learning_rate": 0.001, "packing": False}, (2, 0))
    assert Stored.of(found, PLAN) == Stored(suggestion, Outcome("SUCCEEDED", 0.75))


def test_a_stored_spec_is_read_as_a_plan() -> None:
    assert read_plan(SPEC) == Plan(
        Space(
            (
                Parameter("learning_rate", "uniform", (), {"low": 0.01, "high": 0.1}),
                Parameter("max_steps", "randint", (), {"low": 50.0, "high": 200.0}),
                Parameter("lora.rank", "choice", (4, 8), when=Condition("packing", (True,))),
                Parameter("packing", "choice", (True, False)),
            ),
            "TPE",
            12,
            2,
        ),
        2**53 + 1,
        "max",
        4,
        Tpe(5, False),
        Scheduling("ASHA", "min", 11, 0.1 + 0.2, 2, 0, 200),
    )
    fifo = pb.SweepSpec()
    fifo.CopyFrom(SPEC)
    fifo.scheduler = pb.TRIAL_SCHEDULER_FIFO
    assert read_plan(fifo).scheduling is None
