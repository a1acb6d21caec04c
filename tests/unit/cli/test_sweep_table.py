"""A sweep as a table: outcomes, the best so far, rows and axes."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from tunix_rt.cli.sweep_table import Axis, SweepTable, outcome_of, sweep_table
from tunix_rt.client import Sweep, Trial
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import sweeps_pb2 as pb

SUCCEEDED, FAILED = common_pb2.JOB_STATE_SUCCEEDED, common_pb2.JOB_STATE_FAILED
CANCELLED = common_pb2.JOB_STATE_CANCELLED


def scored(scores: list[float | None], mode: Any = pb.OBJECTIVE_MODE_MAX) -> SweepTable:
    trials = [pb.Trial(number=n, id=f"trial-{n}", state=SUCCEEDED, objective=s) for n, s in enumerate(scores)]
    for trial, score in zip(trials, scores, strict=True):
        if score is None:
            trial.state = FAILED
    sweep = pb.Sweep(id="s", spec=pb.SweepSpec(objective=pb.Objective(metric="loss", mode=mode)))
    return sweep_table(Sweep(sweep), Trial.each(trials))


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        (pb.Trial(state=common_pb2.JOB_STATE_QUEUED), "QUEUED"),
        (pb.Trial(state=common_pb2.JOB_STATE_RUNNING), "RUNNING"),
        (pb.Trial(state=common_pb2.JOB_STATE_CANCELLING, reason=common_pb2.REASON_EARLY_STOPPED), "RUNNING"),
        (pb.Trial(state=CANCELLED, reason=common_pb2.REASON_EARLY_STOPPED), "STOPPED"),
        (pb.Trial(state=CANCELLED, reason=common_pb2.REASON_USER_CANCELLED), "CANCELLED"),
        (pb.Trial(state=FAILED), "FAILED"),
        (pb.Trial(state=SUCCEEDED), "SUCCEEDED"),
    ],
)
def test_a_trial_that_the_scheduler_stopped_is_neither_failed_nor_cancelled(trial: pb.Trial, expected: str) -> None:
    assert outcome_of(Trial(trial)) == expected


@pytest.mark.parametrize(
    ("mode", "course", "best"),
    [
        (pb.OBJECTIVE_MODE_MAX, [None, 0.0, 0.0, 0.5, 0.5], 3),
        (pb.OBJECTIVE_MODE_MIN, [None, 0.0, -0.25, -0.25, -0.25], 2),
    ],
)
def test_the_best_so_far_follows_the_mode_and_passes_over_failures(mode: Any, course: Any, best: int) -> None:
    table = scored([None, 0.0, -0.25, 0.5, 0.5], mode)
    assert [row.running_best for row in table.rows] == course
    assert table.best is not None
    assert table.best.number == best


def test_without_a_succeeded_trial_there_is_no_best() -> None:
    assert scored([None, None]).best is None


def test_rows_come_by_number_in_whatever_order_trials_come(a_sweep: Any, some_trials: Any) -> None:
    trials = some_trials(12)
    assert sweep_table(a_sweep(), trials[::-1]) == sweep_table(a_sweep(), trials)


def test_axes_have_the_ends_that_can_be_drawn(a_sweep: Any, choice: Any) -> None:
    axes = sweep_table(a_sweep(), []).axes
    assert axes[0] == Axis("learning_rate", "loguniform", (), 1e-5, 1e-2, True)
    assert axes[1] == Axis("per_device_batch_size", "choice", (4, 8, 16))
    assert axes[4] == Axis("warmup_steps", "randint", (), 0, 10)
    sweep = a_sweep()
    spec = sweep.proto.spec
    del spec.parameters[:]
    spec.parameters.add(name="weight_decay").normal.stddev = 1
    spec.parameters.add(name="packing").grid.CopyFrom(choice(True, False))
    assert sweep_table(sweep, []).axes == (Axis("weight_decay", "normal"), Axis("packing", "grid", (True, False)))


def test_csv_has_a_line_for_each_trial_and_nothing_where_a_parameter_is_not_set(a_sweep: Any, some_trials: Any) -> None:
    table = sweep_table(a_sweep(), some_trials(12))
    lines = list(csv.DictReader(io.StringIO(table.csv())))
    assert [int(line["number"]) for line in lines] == list(range(12))
    for line, row in zip(lines, table.rows, strict=True):
        assert float(line["learning_rate"]) == row.parameters["learning_rate"]
        assert (line["lora.alpha"] == "") == (line["lora.rank"] == "4")
        assert line["objective"] == ("" if row.objective is None else repr(row.objective))
        assert line["outcome"] == row.outcome
    assert {line["lora.rank"] for line in lines} == {"4", "16"}


def test_the_document_says_what_the_axes_are_and_repeats_every_row(a_sweep: Any, some_trials: Any) -> None:
    document = sweep_table(a_sweep(), some_trials(12)).document()
    assert document["objective"] == {"metric": "primary_score", "mode": "MAX"}
    assert [axis["name"] for axis in document["axes"]][3] == "lora.alpha"
    assert len(document["trials"]) == 12
    assert document["trials"][1]["outcome"] == "STOPPED"
    assert document["trials"][1]["objective"] is None
