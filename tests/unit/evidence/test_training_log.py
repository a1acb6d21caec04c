"""The training log: a row per step, few enough, and what was left out is counted."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from tunix_rt.evidence.training_log import MAX_LINES, MAX_STEPS, training_log


def points(key: str, steps: range) -> list[dict[str, Any]]:
    return [
        {"key": key, "step": step, "value": step / 2, "time": f"2026-05-03T10:00:{step % 60:02}Z"} for step in steps
    ]


def lines(count: int) -> list[dict[str, Any]]:
    return [{"attempt": 1, "sequence": n, "level": "INFO", "message": f"line {n}"} for n in range(count)]


def test_metrics_of_a_step_are_one_row_and_rows_stand_by_step() -> None:
    log = training_log([*points("loss", range(1, 3)), *points("eval_loss", range(2, 3))], lines(1))
    assert log == [
        {"kind": "metrics", "step": 1, "time": "2026-05-03T10:00:01Z", "values": {"loss": 0.5}},
        {"kind": "metrics", "step": 2, "time": "2026-05-03T10:00:02Z", "values": {"loss": 1.0, "eval_loss": 1.0}},
        {"kind": "log", "attempt": 1, "sequence": 0, "level": "INFO", "message": "line 0"},
    ]


def test_of_a_long_run_evenly_many_steps_stay_with_the_first_and_the_last() -> None:
    log = training_log(points("loss", range(1, 10_001)), [])
    steps = [row["step"] for row in log if row["kind"] == "metrics"]
    assert (len(steps), steps[0], steps[-1]) == (MAX_STEPS, 1, 10_000)
    assert {after - before for before, after in pairwise(steps)} == {20, 21}
    assert log[-1] == {"kind": "left_out", "steps": 9_500, "log_lines": 0}


def test_of_many_log_lines_the_first_and_the_last_stay() -> None:
    log = training_log([], lines(MAX_LINES + 10))
    kept = [row["sequence"] for row in log if row["kind"] == "log"]
    assert kept == [*range(MAX_LINES // 2), *range(MAX_LINES // 2 + 10, MAX_LINES + 10)]
    assert log[-1] == {"kind": "left_out", "steps": 0, "log_lines": 10}
    assert [row["kind"] for row in training_log([], lines(MAX_LINES))] == ["log"] * MAX_LINES
