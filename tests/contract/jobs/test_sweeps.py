"""Sweeps: trials are ordinary runs, made once per number; objectives come from what is stored."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tunix_rt.errors import Aborted, FailedPrecondition, InvalidInput
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.registry.sweeps.tables import TrialRow
from tunix_rt.v1 import common_pb2, runs_pb2, sweeps_pb2

TIMEOUT = 20
SUCCEEDED = common_pb2.JOB_STATE_SUCCEEDED
FAILED = common_pb2.JOB_STATE_FAILED
CANCELLED = common_pb2.JOB_STATE_CANCELLED


async def test_a_created_sweep_is_whole_and_queued_for_a_tuner(registry: Any) -> None:
    sweep = await registry.create_sweep()
    spec = sweep.spec
    assert sweep.state == common_pb2.JOB_STATE_QUEUED
    assert (spec.algorithm, spec.scheduler) == (sweeps_pb2.SEARCH_ALGORITHM_RANDOM, sweeps_pb2.TRIAL_SCHEDULER_FIFO)
    assert (spec.num_samples, spec.max_concurrent_trials, spec.max_attempts) == (3, 1, 5)
    assert (spec.objective.metric, spec.objective.mode) == ("primary_score", sweeps_pb2.OBJECTIVE_MODE_MAX)
    assert spec.base.evaluate_on[0].evalset == registry.evalset_id
    assert spec.base.hyperparameters.max_steps == 100
    assert await registry.subjects() == [f"tunix.evt.sweep.created.{sweep.id}", "tunix.cmd.tune"]
    assert await registry.get_sweep(sweep.id) == sweep
    again = await registry.sweeps.CreateSweep(
        sweeps_pb2.CreateSweepRequest(spec=registry.sweep_spec(), validate_only=True), timeout=TIMEOUT
    )
    assert (again.id, again.spec) == ("", spec)


async def test_a_trial_is_an_ordinary_run_with_the_suggested_hyperparameters(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep()
    trial = await registry.trial(lease, 0, learning_rate=0.05, per_device_batch_size=2)
    assert (trial.sweep_id, trial.number, trial.state) == (sweep.id, 0, common_pb2.JOB_STATE_QUEUED)
    assert dict(trial.parameters) == {"learning_rate": 0.05, "per_device_batch_size": 2}
    run = await registry.get_run(trial.run_id)
    assert (run.sweep_id, run.trial_id) == (sweep.id, trial.id)
    assert dict(run.tags) == {"sweep": sweep.id, "trial": "0"}
    assert run.spec.hyperparameters.learning_rate == 0.05
    assert run.spec.hyperparameters.per_device_batch_size == 2
    assert run.spec.hyperparameters.max_steps == 100
    assert (await registry.subjects())[-3:] == [
        f"tunix.evt.trial.created.{trial.id}",
        f"tunix.evt.run.created.{run.id}",
        "tunix.cmd.train.cpu",
    ]


async def test_a_suggestion_sent_twice_makes_one_trial_even_after_a_crash(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep()
    twice = await asyncio.gather(*(registry.trial(lease, 0) for _ in range(5)))
    assert len({trial.id for trial in twice}) == 1
    await registry.reap(after_seconds=20)
    claim = await registry.claim(sweep.id, "tuner-2")
    assert [trial.id for trial in await registry.trials(sweep.id)] == [twice[0].id]
    # Another suggestion under the number of a stored trial is that trial.
    assert (await registry.trial(claim.lease, 0, learning_rate=0.02)).parameters["learning_rate"] == 0.01
    assert (await registry.count(TrialRow), await registry.count(RunRow)) == (1, 1)


async def test_an_old_tuner_can_write_nothing(registry: Any, refusal: Any) -> None:
    sweep, old = await registry.claimed_sweep()
    await registry.reap(after_seconds=20)
    claim = await registry.claim(sweep.id, "tuner-2")
    assert claim.lease.epoch == 2
    assert (await refusal(registry.trial(old, 0))).kind is Aborted
    assert await registry.count(TrialRow) == 0
    assert not (await registry.claim(sweep.id, "tuner-3")).granted


async def test_a_trials_objective_is_the_primary_score_of_its_first_evaluation(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep()
    trial = await registry.trial(lease, 0)
    run = await registry.train(trial)
    (waiting,) = await registry.trials(sweep.id)
    assert (waiting.state, waiting.evaluation_id) == (common_pb2.JOB_STATE_RUNNING, run.evaluation_ids[0])
    assert not waiting.HasField("objective")
    await registry.score(run, 0.75)
    (done,) = await registry.trials(sweep.id)
    assert (done.state, done.objective, done.ci_low, done.ci_high) == (SUCCEEDED, 0.75, 0.1, 0.9)
    assert await registry.history(trial.id) == ["QUEUED", "RUNNING", "SUCCEEDED"]
    facts = [subject for subject in await registry.subjects() if ".trial." in subject]
    assert [fact.split(".")[3] for fact in facts] == ["created", "running", "succeeded"]


@pytest.mark.parametrize(
    ("value", "state", "expected"),
    [
        (None, JobState.SUCCEEDED, FAILED),
        (None, JobState.FAILED, FAILED),
        (0.9, JobState.CANCELLED, CANCELLED),
    ],
)
async def test_a_trial_without_a_score_does_not_succeed(
    registry: Any, value: float | None, state: JobState, expected: int
) -> None:
    sweep, lease = await registry.claimed_sweep()
    run = await registry.train(await registry.trial(lease, 0))
    await registry.score(run, value, state)
    (trial,) = await registry.trials(sweep.id)
    assert trial.state == expected
    assert not trial.HasField("objective")


async def test_a_trial_ends_as_its_run_does(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep()
    failing, stopping = await registry.trial(lease, 0), await registry.trial(lease, 1)
    claim = await registry.claim(failing.run_id)
    await registry.end(claim.lease, FAILED, reason=common_pb2.REASON_DIVERGED, message="NaN")
    await registry.cancel(stopping.run_id, reason=common_pb2.REASON_EARLY_STOPPED)
    failed, stopped = await registry.trials(sweep.id)
    assert (failed.state, failed.reason, failed.message) == (FAILED, common_pb2.REASON_DIVERGED, "NaN")
    assert (stopped.state, stopped.reason) == (CANCELLED, common_pb2.REASON_EARLY_STOPPED)
    current = await registry.get_sweep(sweep.id)
    assert (current.n_trials, current.n_succeeded, current.n_failed) == (2, 0, 1)


async def test_a_run_metric_can_be_the_objective(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(
        base=registry.spec(),
        objective=sweeps_pb2.Objective(metric="eval/loss", mode=sweeps_pb2.OBJECTIVE_MODE_MIN),
    )
    for number, losses in enumerate(([0.9, 0.4], [0.2, 0.6], [])):
        trial = await registry.trial(lease, number)
        claim = await registry.claim(trial.run_id)
        points = [common_pb2.MetricPoint(key="eval/loss", step=step, value=loss) for step, loss in enumerate(losses)]
        await registry.runs.ReportMetrics(
            runs_pb2.ReportMetricsRequest(lease=claim.lease, points=points), timeout=TIMEOUT
        )
        await registry.succeed(claim.lease, content=str(number))
    trials = await registry.trials(sweep.id)
    assert [trial.state for trial in trials] == [SUCCEEDED, SUCCEEDED, FAILED]
    # The last value counts, not the lowest.
    assert [trial.objective for trial in trials[:2]] == [0.4, 0.6]
    assert "eval/loss" in trials[2].message
    assert (await registry.get_sweep(sweep.id)).best_trial_id == trials[0].id


async def test_the_best_trial_has_the_best_objective_and_among_equals_the_lowest_number(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(num_samples=4, max_concurrent_trials=4)
    trials = [await registry.trial(lease, number) for number in range(4)]
    assert (await registry.get_sweep(sweep.id)).best_trial_id == ""
    for trial, value in zip(trials, (0.5, 0.8, 0.8, None), strict=True):
        await registry.score(await registry.train(trial), value)
    assert (await registry.get_sweep(sweep.id)).best_trial_id == trials[1].id
    assert [trial.number for trial in await registry.trials(sweep.id, "objective desc")] == [1, 2, 0, 3]
    assert [trial.number for trial in await registry.trials(sweep.id, "objective")] == [0, 1, 2, 3]
    done = await registry.end_sweep(lease, SUCCEEDED)
    assert (done.state, done.best_trial_id, done.n_succeeded, done.n_failed) == (SUCCEEDED, trials[1].id, 3, 1)
    assert await registry.end_sweep(lease, SUCCEEDED) == done


async def test_a_sweep_cannot_succeed_while_a_trial_runs(registry: Any, refusal: Any) -> None:
    sweep, lease = await registry.claimed_sweep()
    await registry.trial(lease, 0)
    assert (await refusal(registry.end_sweep(lease, SUCCEEDED))).kind is FailedPrecondition
    assert (await registry.get_sweep(sweep.id)).state == common_pb2.JOB_STATE_RUNNING


async def test_a_sweep_whose_trials_all_failed_has_failed(registry: Any) -> None:
    _, lease = await registry.claimed_sweep(num_samples=1)
    trial = await registry.trial(lease, 0)
    claim = await registry.claim(trial.run_id)
    await registry.end(claim.lease, FAILED, reason=common_pb2.REASON_DIVERGED)
    done = await registry.end_sweep(lease, SUCCEEDED)
    assert (done.state, done.reason) == (FAILED, common_pb2.REASON_NO_TRIAL_SUCCEEDED)
    assert await registry.end_sweep(lease, SUCCEEDED) == done


async def test_cancelling_a_sweep_cancels_everything_below_it(registry: Any, refusal: Any) -> None:
    sweep, lease = await registry.claimed_sweep(num_samples=4)
    done, scoring, training, queued = [await registry.trial(lease, number) for number in range(4)]
    await registry.score(await registry.train(done), 0.5)
    scored = await registry.train(scoring)
    claim = await registry.claim(training.run_id)
    request = sweeps_pb2.CancelSweepRequest(request_id=registry.request_id(), id=sweep.id, message="enough")
    asked = await registry.sweeps.CancelSweep(request, timeout=TIMEOUT)
    assert asked.state == common_pb2.JOB_STATE_CANCELLING
    states = [trial.state for trial in await registry.trials(sweep.id)]
    assert states == [SUCCEEDED, CANCELLED, common_pb2.JOB_STATE_CANCELLING, CANCELLED]
    run = await registry.get_run(queued.run_id)
    assert (run.state, run.reason) == (CANCELLED, common_pb2.REASON_PARENT_CANCELLED)
    assert (await registry.history(scored.evaluation_ids[0]))[-1] == "CANCELLED"
    assert (await registry.heartbeat(claim.lease)).cancel_reason == common_pb2.REASON_PARENT_CANCELLED
    assert (await refusal(registry.trial(lease, 9))).kind is FailedPrecondition
    assert (await registry.heartbeat(lease)).cancel_requested
    await registry.end(claim.lease, CANCELLED)
    ended = await registry.end_sweep(lease, CANCELLED)
    assert (ended.state, ended.reason, ended.message) == (CANCELLED, common_pb2.REASON_USER_CANCELLED, "enough")
    assert await registry.sweeps.CancelSweep(request, timeout=TIMEOUT) == asked


async def test_a_queued_sweep_is_cancelled_at_once(registry: Any) -> None:
    sweep = await registry.create_sweep()
    request = sweeps_pb2.CancelSweepRequest(request_id=registry.request_id(), id=sweep.id)
    assert (await registry.sweeps.CancelSweep(request, timeout=TIMEOUT)).state == CANCELLED


async def test_a_failed_sweep_leaves_no_trial_running(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep()
    trial = await registry.trial(lease, 0)
    await registry.end_sweep(lease, FAILED, reason=common_pb2.REASON_INTERNAL, message="ray died")
    (ended,) = await registry.trials(sweep.id)
    assert (ended.state, ended.reason) == (CANCELLED, common_pb2.REASON_PARENT_CANCELLED)
    assert (await registry.get_run(trial.run_id)).state == CANCELLED


async def test_a_released_sweep_is_sent_to_the_next_tuner_with_its_trials(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep()
    trial = await registry.trial(lease, 0)
    await registry.release(lease)
    assert (await registry.subjects("command")).count("tunix.cmd.tune") == 2
    claim = await registry.claim(sweep.id, "tuner-2")
    assert claim.granted
    assert [each.id for each in await registry.trials(sweep.id)] == [trial.id]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"learning_rate": 2.0}, "parameters.learning_rate"),
        ({"learning_rate": "fast"}, "parameters.learning_rate"),
        ({"per_device_batch_size": 2.5}, "parameters.per_device_batch_size"),
        ({"weight_decay": 0.1}, "parameters.weight_decay"),
        ({"colour": "red"}, "parameters.colour"),
    ],
)
async def test_a_suggestion_that_does_not_fit_is_refused_by_field(
    registry: Any, refusal: Any, parameters: dict[str, Any], field: str
) -> None:
    _, lease = await registry.claimed_sweep()
    refused = await refusal(registry.trial(lease, 0, **parameters))
    assert (refused.kind, refused.fields) == (InvalidInput, [field])
    assert (await registry.count(TrialRow), await registry.count(RunRow)) == (0, 0)


async def test_a_suggestion_must_name_every_parameter(registry: Any, refusal: Any) -> None:
    _, lease = await registry.claimed_sweep()
    request = sweeps_pb2.CreateTrialRequest(lease=lease, number=0)
    request.parameters.update({"learning_rate": 0.1})
    refused = await refusal(registry.sweeps.CreateTrial(request, timeout=TIMEOUT))
    assert refused.fields == ["parameters.per_device_batch_size"]
    request.number = -1
    assert (await refusal(registry.sweeps.CreateTrial(request, timeout=TIMEOUT))).fields == ["number"]


async def test_tuning_num_epochs_replaces_the_bases_max_steps(registry: Any) -> None:
    epochs = sweeps_pb2.Parameter(name="num_epochs", uniform=sweeps_pb2.Uniform(low=1, high=3))
    _, lease = await registry.claimed_sweep(parameters=[epochs])
    request = sweeps_pb2.CreateTrialRequest(lease=lease, number=0)
    request.parameters.update({"num_epochs": 2.5})
    trial = await registry.sweeps.CreateTrial(request, timeout=TIMEOUT)
    run = await registry.get_run(trial.run_id)
    assert run.spec.hyperparameters.WhichOneof("duration") == "num_epochs"
    assert run.spec.hyperparameters.num_epochs == 2.5


async def test_watching_a_sweep_shows_its_trials_and_ends_with_it(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(num_samples=1)
    call = registry.sweeps.WatchSweep(sweeps_pb2.WatchSweepRequest(id=sweep.id), timeout=TIMEOUT)
    first = await call.read()
    assert (len(first.trials), first.sweep.state) == (0, common_pb2.JOB_STATE_RUNNING)
    trial = await registry.trial(lease, 0)
    await registry.score(await registry.train(trial), 0.5)
    await registry.end_sweep(lease, SUCCEEDED)
    responses = [response async for response in call]
    assert responses[-1].sweep.state == SUCCEEDED
    brought = [each for response in responses for each in response.trials]
    assert (brought[-1].number, brought[-1].objective) == (0, 0.5)


async def test_a_watch_brings_only_the_trials_that_changed(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(num_samples=3)
    await registry.score(await registry.train(await registry.trial(lease, 0)), 0.5)
    # Trials that run side by side may be stored in another order than that of their numbers.
    late = await registry.trial(lease, 2)
    call = registry.sweeps.WatchSweep(sweeps_pb2.WatchSweepRequest(id=sweep.id), timeout=TIMEOUT)
    assert [trial.number for trial in (await call.read()).trials] == [0, 2]
    early = await registry.trial(lease, 1)
    brought = [trial.number for trial in (await call.read()).trials]
    for trial in (late, early):
        await registry.score(await registry.train(trial), 0.25)
    await registry.end_sweep(lease, SUCCEEDED)
    final: dict[int, sweeps_pb2.Trial] = {}
    async for response in call:
        brought += [trial.number for trial in response.trials]
        final |= {trial.number: trial for trial in response.trials}
    assert brought[0] == 1 and 0 not in brought
    assert {number: trial.objective for number, trial in final.items()} == {1: 0.25, 2: 0.25}


async def test_sweeps_are_listed_with_filters_and_pages(registry: Any) -> None:
    made = [await registry.create_sweep() for _ in range(3)]
    await registry.claim(made[1].id)
    request = sweeps_pb2.ListSweepsRequest(page_size=2)
    first = await registry.sweeps.ListSweeps(request, timeout=TIMEOUT)
    request.page_token = first.next_page_token
    rest = await registry.sweeps.ListSweeps(request, timeout=TIMEOUT)
    assert [sweep.id for sweep in [*first.sweeps, *rest.sweeps]] == [sweep.id for sweep in reversed(made)]
    running = await registry.sweeps.ListSweeps(sweeps_pb2.ListSweepsRequest(filter="state = RUNNING"), timeout=TIMEOUT)
    assert [sweep.id for sweep in running.sweeps] == [made[1].id]
