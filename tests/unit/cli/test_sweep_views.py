"""Sweeps as people read them."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from tunix_rt.cli.sweep_table import sweep_table
from tunix_rt.cli.views import sweeps as views
from tunix_rt.client.resources.sweep_records import Importance
from tunix_rt.client.resources.sweeps import SweepResults
from tunix_rt.v1 import common_pb2, tuning_pb2
from tunix_rt.v1 import sweeps_pb2 as pb


def text(parts: Any) -> str:
    console = Console(width=240, record=True, file=io.StringIO())
    for part in parts if isinstance(parts, list) else [parts]:
        console.print(part)
    return console.export_text()


def test_a_sweep_shows_its_search_its_scheduler_its_trials_and_its_best(a_sweep: Any, some_trials: Any) -> None:
    sweep = a_sweep(trial_count=15, display_name="mine", paused=True, best_trial_id="trial-2")
    shown = text(views.sweep(sweep, some_trials(12)))
    assert "learning_rate = loguniform(1e-05, 0.01)" in shown
    assert "per_device_batch_size = choice(4, 8, 16)" in shown
    assert "lora.alpha = uniform(8, 64) when lora.rank in 16" in shown
    assert "tpe after 10 random trials, multivariate" in shown
    assert "asha: min eval_loss, after 10 steps, top 1/3 promoted, 1 bracket(s)" in shown
    assert "12 of 15: 6 succeeded, 1 running, 4 stopped early, 1 failed" in shown
    assert "paused" in shown
    assert "(trial 2)" in shown
    assert "2 ★" in shown
    assert "EARLY_STOPPED" in shown


def test_a_population_that_has_replaced_members_says_how_large_it_is(a_sweep: Any, some_trials: Any) -> None:
    sweep = a_sweep(trial_count=8)
    sweep.proto.spec.scheduler = pb.TRIAL_SCHEDULER_PBT
    sweep.proto.spec.scheduling.CopyFrom(
        pb.SchedulerSettings(
            metric="eval_loss", mode=pb.OBJECTIVE_MODE_MIN, grace_steps=10, interval_steps=20, quantile_fraction=0.25
        )
    )
    shown = text(views.sweep(sweep, some_trials(12)))
    assert "12 in a population of 8: 6 succeeded, 1 running, 4 stopped early, 1 failed" in shown
    assert "pbt: min eval_loss, after 10 steps, the worst 25% are replaced every 20 steps" in shown


def test_the_bar_gives_every_outcome_its_share(a_sweep: Any, some_trials: Any) -> None:
    sweep = a_sweep(trial_count=16)
    table = sweep_table(sweep, some_trials(12))
    drawn = text(views.trial_bar(sweep, table)).strip()
    # 32 cells for 16 trials: 6 succeeded, 4 stopped, 1 failed, 1 running, 4 to come.
    assert drawn == "█" * 12 + "▓" * 8 + "▒" * 2 + "░" * 2 + "·" * 8


def test_very_many_trials_are_not_all_listed(a_sweep: Any, some_trials: Any) -> None:
    shown = text(views.sweep(a_sweep(), some_trials(250)))
    assert "… and 150 more: tunix-rt sweeps trials sweep-1" in shown


def test_before_any_score_no_best_is_claimed(a_sweep: Any, some_trials: Any) -> None:
    table = sweep_table(a_sweep(), some_trials(12)[:0])
    assert views.best_line(a_sweep(), table) == ""
    assert views.trial_counts(a_sweep(trial_count=12), table) == "0 of 12"


def test_results_mark_ties_and_say_the_sentence() -> None:
    first = pb.Configuration(index=4, objective=0.5, ci_low=0.4, ci_high=0.6, n_succeeded=3)
    tied = pb.Configuration(index=0, objective=0.45, difference=-0.05, difference_low=-0.12, difference_high=0.02)
    tied.tied_with_best = True
    worse = pb.Configuration(index=1, objective=0.1, difference=-0.4, n_succeeded=2, n_failed=1)
    none = pb.Configuration(index=2, n_stopped=3)
    none.parameters.update({"learning_rate": 0.003, "packing": True})
    found = pb.SweepResults(
        configurations=[first, tied, worse, none], n_tied=1, statement="It is a tie.", steps=12345, best_trial_id="t-12"
    )
    lines = text(views.results(SweepResults(found))).splitlines()[1:]
    assert "0.500 [0.400, 0.600]" in lines[2]
    assert "3 succeeded" in lines[2]
    assert "-0.050 [-0.120, +0.020]" in lines[3]
    assert [("ties with best" in line) for line in lines[2:6]] == [False, True, False, False]
    assert "2 succeeded, 1 failed" in lines[4]
    assert lines[5].split()[:3] == ["–", "2", "–"]
    assert "learning_rate=0.003  packing=True" in lines[5]
    assert any("It is a tie." in line for line in lines)
    assert any("12,345" in line for line in lines)


def test_importance_is_drawn_as_bars() -> None:
    parts = [("learning_rate", 0.75), ("warmup_steps", 0.25)]
    found = tuning_pb2.ComputeImportanceResponse(
        parameters=[tuning_pb2.ParameterImportance(name=name, importance=share) for name, share in parts], n_trials=9
    )
    shown = text(views.importance(Importance(found)))
    assert "0.750" in shown
    assert "█" * 24 in shown
    assert "█" * 25 not in shown
    assert "9 trials" in shown


def test_a_list_counts_against_what_the_sweep_is_to_have(a_sweep: Any) -> None:
    sweep = a_sweep(n_succeeded=4, n_trials=7, n_stopped=2, n_failed=1, trial_count=12)
    sweep.proto.state = common_pb2.JOB_STATE_QUEUED
    assert "4 of 12, 2 stopped early, 1 failed" in text(views.sweeps([sweep]))
