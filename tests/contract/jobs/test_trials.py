"""Trials: what a number means, what a suggestion must be, what is seen of a trial while it trains, stopping early."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf import struct_pb2

from tunix_rt.errors import Aborted, FailedPrecondition, InvalidInput, NotFound
from tunix_rt.v1 import common_pb2, runs_pb2, sweeps_pb2

TIMEOUT = 20
SUCCEEDED, CANCELLED = common_pb2.JOB_STATE_SUCCEEDED, common_pb2.JOB_STATE_CANCELLED
RUNNING, CANCELLING = common_pb2.JOB_STATE_RUNNING, common_pb2.JOB_STATE_CANCELLING
STOPPED = common_pb2.REASON_EARLY_STOPPED
PARAMETER = sweeps_pb2.Parameter
ASHA = {
    "scheduler": sweeps_pb2.TRIAL_SCHEDULER_ASHA,
    "scheduling": sweeps_pb2.SchedulerSettings(metric="eval/loss", mode=sweeps_pb2.OBJECTIVE_MODE_MIN),
}


def values(*given: Any) -> list[struct_pb2.Value]:
    listed = struct_pb2.ListValue()
    listed.extend(given)
    return list(listed.values)


def request(lease: common_pb2.Lease, number: int, observed: Any = (), **parameters: Any) -> Any:
    made = sweeps_pb2.CreateTrialRequest(lease=lease, number=number, observed=observed)
    made.parameters.update(parameters)
    return made


async def create(registry: Any, *arguments: Any, **parameters: Any) -> sweeps_pb2.Trial:
    return await registry.sweeps.CreateTrial(request(*arguments, **parameters), timeout=TIMEOUT)


async def stop(registry: Any, lease: common_pb2.Lease, number: int, message: str = "") -> sweeps_pb2.Trial:
    return await registry.sweeps.StopTrial(
        sweeps_pb2.StopTrialRequest(lease=lease, number=number, message=message), timeout=TIMEOUT
    )


async def test_a_number_is_a_configuration_and_a_repeat_with_a_seed_and_a_pool(registry: Any) -> None:
    base = registry.spec(
        hyperparameters=runs_pb2.Hyperparameters(seed=40), evaluate_on=[runs_pb2.EvaluateOn(evalset="quiz")]
    )
    sweep, lease = await registry.claimed_sweep(base=base, repeats=3, num_samples=2, pools=["cpu", "gpu"])
    assert sweep.trial_count == 6
    trials = [await registry.trial(lease, number, learning_rate=0.01 * (1 + number // 3)) for number in range(6)]
    assert [(each.configuration, each.repeat) for each in trials] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    runs = [await registry.get_run(each.run_id) for each in trials]
    assert [run.spec.hyperparameters.seed for run in runs] == [40, 41, 42, 40, 41, 42]
    assert [run.spec.pool for run in runs] == ["cpu", "gpu"] * 3
    assert (await registry.subjects("command"))[-2:] == ["tunix.cmd.train.cpu", "tunix.cmd.train.gpu"]


async def test_a_repeat_has_the_parameters_of_its_configuration(registry: Any, refusal: Any) -> None:
    _, lease = await registry.claimed_sweep(repeats=2)
    await registry.trial(lease, 0, learning_rate=0.05)
    refused = await refusal(registry.trial(lease, 1, learning_rate=0.06))
    assert (refused.kind, refused.fields) == (InvalidInput, ["parameters"])
    assert (await registry.trial(lease, 1, learning_rate=0.05)).repeat == 1


async def test_a_trial_beyond_the_sweep_is_refused(registry: Any, refusal: Any) -> None:
    _, lease = await registry.claimed_sweep(num_samples=2, repeats=2)
    assert (await refusal(registry.trial(lease, 4))).fields == ["number"]
    assert (await registry.trial(lease, 3)).configuration == 1


async def test_a_trial_has_the_parameters_that_exist_beside_each_other_and_no_more(registry: Any, refusal: Any) -> None:
    kind = PARAMETER(name="lr_scheduler_type", choice=sweeps_pb2.Choice(values=values("constant", "cosine")))
    warmup = PARAMETER(
        name="warmup_steps",
        choice=sweeps_pb2.Choice(values=values(5, 10)),
        when=sweeps_pb2.Condition(parameter="lr_scheduler_type", values=values("cosine")),
    )
    base = registry.spec(
        hyperparameters=runs_pb2.Hyperparameters(warmup_steps=3), evaluate_on=[runs_pb2.EvaluateOn(evalset="quiz")]
    )
    _, lease = await registry.claimed_sweep(base=base, parameters=[kind, warmup])
    both = await create(registry, lease, 0, lr_scheduler_type="cosine", warmup_steps=10)
    alone = await create(registry, lease, 1, lr_scheduler_type="constant")
    runs = [await registry.get_run(each.run_id) for each in (both, alone)]
    assert [run.spec.hyperparameters.warmup_steps for run in runs] == [10, 3]
    assert dict(alone.parameters) == {"lr_scheduler_type": "constant"}
    for parameters, text in (
        ({"lr_scheduler_type": "cosine"}, "parameters.warmup_steps: is missing"),
        ({"lr_scheduler_type": "constant", "warmup_steps": 5}, "parameters.warmup_steps: does not exist beside"),
        ({"warmup_steps": 5}, "parameters.lr_scheduler_type: is missing"),
    ):
        refused = await refusal(create(registry, lease, 2, **parameters))
        assert refused.kind is InvalidInput
        assert text in refused.text


async def test_a_tuned_rank_makes_an_adapter_with_its_defaults(registry: Any) -> None:
    ranks = PARAMETER(name="lora.rank", choice=sweeps_pb2.Choice(values=values(4, 8)))
    dropout = PARAMETER(name="lora.dropout", uniform=sweeps_pb2.Uniform(low=0, high=0.5))
    _, lease = await registry.claimed_sweep(parameters=[ranks, dropout])
    trial = await create(registry, lease, 0, **{"lora.rank": 8, "lora.dropout": 0.25})
    assert dict(trial.parameters) == {"lora.rank": 8, "lora.dropout": 0.25}
    lora = (await registry.get_run(trial.run_id)).spec.hyperparameters.lora
    assert (lora.rank, lora.alpha, lora.dropout, list(lora.target_modules)) == (8, 16, 0.25, ["all-linear"])


async def test_what_the_search_knew_is_kept_with_the_suggestion(registry: Any, refusal: Any) -> None:
    sweep, lease = await registry.claimed_sweep()
    both = {"learning_rate": 0.01, "per_device_batch_size": 4}
    for number, observed in enumerate(([], [], [1, 0])):
        made = await create(registry, lease, number, observed, **both)
        assert list(made.observed) == observed
    # What is stored stands, whatever comes again under its number.
    assert list((await create(registry, lease, 2, [0], **both)).observed) == [1, 0]
    await registry.reap(after_seconds=20)
    claim = await registry.claim(sweep.id, "tuner-2")
    assert [list(trial.observed) for trial in await registry.trials(sweep.id)] == [[], [], [1, 0]]
    refused = await refusal(create(registry, claim.lease, 3, [0, 0, 3, -1], **both))
    assert refused.fields == ["observed[1]", "observed[2]", "observed[3]"]


async def test_a_new_trial_forgets_the_failures_before_it(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(max_attempts=2)
    for number in range(3):
        await registry.trial(lease, number)
        failed = await registry.end_sweep(
            lease, common_pb2.JOB_STATE_FAILED, reason=common_pb2.REASON_INTERNAL, retryable=True
        )
        assert failed.state == RUNNING
        lease = (await registry.claim(sweep.id)).lease
    # This attempt made no trial, and is the second to fail since the last one.
    failed = await registry.end_sweep(
        lease, common_pb2.JOB_STATE_FAILED, reason=common_pb2.REASON_INTERNAL, retryable=True
    )
    assert failed.state == common_pb2.JOB_STATE_FAILED


async def test_trials_that_end_forget_the_failures_before_them(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(max_attempts=2)
    trial = await registry.trial(lease, 0)
    for done, state in ((0, RUNNING), (1, RUNNING), (1, common_pb2.JOB_STATE_FAILED)):
        if done == 1 and (await registry.get_run(trial.run_id)).state == common_pb2.JOB_STATE_QUEUED:
            await registry.cancel(trial.run_id, reason=common_pb2.REASON_EARLY_STOPPED)
        # What a tuner says of its progress does not count.
        await registry.heartbeat(lease, done=17)
        progress = (await registry.get_sweep(sweep.id)).progress
        assert (progress.done, progress.total, progress.unit) == (done, 3, "trials")
        ended = await registry.end_sweep(
            lease, common_pb2.JOB_STATE_FAILED, reason=common_pb2.REASON_INTERNAL, retryable=True
        )
        assert ended.state == state
        lease = (await registry.claim(sweep.id)).lease


async def test_a_trial_shows_what_its_run_reports(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(**ASHA)
    trial = await registry.trial(lease, 0)
    assert (trial.HasField("reported_value"), trial.reported_step, trial.steps) == (False, 0, 0)
    run = await registry.claim(trial.run_id)
    await registry.report(run.lease, "eval/loss", {10: 0.9, 20: 0.5})
    await registry.report(run.lease, "loss", {25: 0.1})
    (seen,) = await registry.trials(sweep.id)
    assert (seen.reported_value, seen.reported_step, seen.steps) == (0.5, 20, 25)
    await registry.heartbeat(run.lease, done=31)
    (seen,) = await registry.trials(sweep.id)
    assert (seen.reported_step, seen.steps) == (20, 31)


async def test_a_watched_trial_tells_every_point_once_and_ends_with_the_trial(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(**ASHA)
    trial = await registry.trial(lease, 0)
    run = await registry.claim(trial.run_id)
    await registry.report(run.lease, "eval/loss", {10: 0.9, 20: 0.5})
    call = registry.sweeps.WatchTrial(sweeps_pb2.WatchTrialRequest(sweep_id=sweep.id, number=0), timeout=TIMEOUT)
    first = await call.read()
    assert [(point.step, point.value) for point in first.points] == [(10, 0.9), (20, 0.5)]
    assert (first.trial.id, first.trial.state, first.trial.reported_step) == (trial.id, RUNNING, 20)
    # It wakes by the commit: by itself it looks every five seconds.
    async with asyncio.timeout(4):
        await registry.report(run.lease, "eval/loss", {30: 0.25, 20: 0.5})
        second = await call.read()
    assert [(point.key, point.step, point.value) for point in second.points] == [("eval/loss", 30, 0.25)]
    async with asyncio.timeout(4):
        await registry.score(await registry.succeed(run.lease), 0.75)
        rest = [response async for response in call]
    assert rest[-1].trial.objective == 0.75
    assert [point for response in rest for point in response.points] == []
    again = registry.sweeps.WatchTrial(sweeps_pb2.WatchTrialRequest(sweep_id=sweep.id, number=0), timeout=TIMEOUT)
    (only,) = [response async for response in again]
    assert (only.trial.state, [point.step for point in only.points]) == (SUCCEEDED, [10, 20, 30])


async def test_a_watched_trial_of_another_number_is_not_found(registry: Any, refusal: Any) -> None:
    sweep, _ = await registry.claimed_sweep()
    for sweep_id in (sweep.id, "sweep-none"):
        call = registry.sweeps.WatchTrial(sweeps_pb2.WatchTrialRequest(sweep_id=sweep_id, number=0), timeout=TIMEOUT)
        assert (await refusal(call.read())).kind is NotFound


async def test_a_stopped_trial_is_cancelled_as_early_stopped_and_is_no_failure(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(num_samples=2)
    training, waiting = await registry.trial(lease, 0), await registry.trial(lease, 1)
    run = await registry.claim(training.run_id)
    assert (await stop(registry, lease, 1)).state == CANCELLED
    stopping = await stop(registry, lease, 0, "rung 1 of ASHA")
    assert (stopping.state, stopping.reason, stopping.message) == (CANCELLING, STOPPED, "rung 1 of ASHA")
    assert await stop(registry, lease, 0, "again") == stopping
    assert (await registry.heartbeat(run.lease)).cancel_reason == STOPPED
    await registry.end(run.lease, CANCELLED)
    for trial in await registry.trials(sweep.id):
        assert (trial.state, trial.reason) == (CANCELLED, STOPPED)
        ended = await registry.get_run(trial.run_id)
        assert (ended.state, ended.reason) == (CANCELLED, STOPPED)
    assert await registry.history(waiting.id) == ["QUEUED", "CANCELLING", "CANCELLED"]
    current = await registry.get_sweep(sweep.id)
    assert (current.n_trials, current.n_stopped, current.n_failed, current.n_succeeded) == (2, 2, 0, 0)
    done = await registry.end_sweep(lease, SUCCEEDED)
    assert (done.state, done.reason) == (common_pb2.JOB_STATE_FAILED, common_pb2.REASON_NO_TRIAL_SUCCEEDED)


async def test_a_trial_whose_run_has_ended_is_not_stopped_any_more(registry: Any, refusal: Any) -> None:
    sweep, lease = await registry.claimed_sweep()
    run = await registry.train(await registry.trial(lease, 0))
    # Its evaluation is still pending, and goes on.
    assert (await stop(registry, lease, 0)).state == RUNNING
    await registry.score(run, 0.5)
    assert (await stop(registry, lease, 0)).state == SUCCEEDED
    assert (await registry.get_sweep(sweep.id)).n_stopped == 0
    assert (await refusal(stop(registry, lease, 1))).kind is NotFound


async def test_a_stop_and_the_runs_end_at_once_leave_one_story(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(num_samples=8)
    for number in range(8):
        trial = await registry.trial(lease, number)
        run = await registry.claim(trial.run_id)
        stopped, ended = await asyncio.gather(
            stop(registry, lease, number), registry.succeed(run.lease, content=str(number))
        )
        assert stopped.state in (CANCELLING, RUNNING)
        # It finished before its worker heard of it: so it is scored, and counts.
        assert ended.state == SUCCEEDED
        await registry.score(ended, 0.5)
    current = await registry.get_sweep(sweep.id)
    assert (current.n_succeeded, current.n_stopped) == (8, 0)


async def test_an_old_tuner_stops_nothing(registry: Any, refusal: Any) -> None:
    sweep, old = await registry.claimed_sweep()
    trial = await registry.trial(old, 0)
    await registry.reap(after_seconds=20)
    new = (await registry.claim(sweep.id, "tuner-2")).lease
    assert (await refusal(stop(registry, old, 0))).kind is Aborted
    assert (await registry.get_run(trial.run_id)).state == common_pb2.JOB_STATE_QUEUED
    assert (await stop(registry, new, 0)).state == CANCELLED


@pytest.mark.parametrize("repeats", [1, 2])
async def test_a_sweep_cannot_succeed_before_it_has_all_its_trials(registry: Any, refusal: Any, repeats: int) -> None:
    sweep, lease = await registry.claimed_sweep(num_samples=2, repeats=repeats)
    for number in range(2 * repeats):
        refused = await refusal(registry.end_sweep(lease, SUCCEEDED))
        assert refused.kind is FailedPrecondition
        assert f"{number} of {2 * repeats} trials" in refused.text
        await registry.score(await registry.train(await registry.trial(lease, number)), 0.5)
    assert (await registry.end_sweep(lease, SUCCEEDED)).state == SUCCEEDED
    assert (await registry.get_sweep(sweep.id)).trial_count == 2 * repeats
