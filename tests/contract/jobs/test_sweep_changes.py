"""Sweeps that pause, go on and grow: nothing is begun, sent or failed meanwhile, and nothing is lost in a race."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from tunix_rt.errors import Aborted, Conflict, FailedPrecondition, InvalidInput, PermissionDenied
from tunix_rt.registry.access.principals import add_principal
from tunix_rt.registry.access.tokens import add_token
from tunix_rt.registry.jobs.reaper import fail_undeliverable
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.kernel.reconcile import reconcile_commands
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.sweeps.tables import SweepRow
from tunix_rt.v1 import common_pb2, jobs_pb2, jobs_pb2_grpc, sweeps_pb2, sweeps_pb2_grpc

TIMEOUT = 20
QUEUED, RUNNING = common_pb2.JOB_STATE_QUEUED, common_pb2.JOB_STATE_RUNNING
SUCCEEDED, FAILED = common_pb2.JOB_STATE_SUCCEEDED, common_pb2.JOB_STATE_FAILED
INTERNAL = common_pb2.REASON_INTERNAL


async def pause(registry: Any, sweep_id: str, request_id: str = "") -> sweeps_pb2.Sweep:
    request = sweeps_pb2.PauseSweepRequest(request_id=request_id or registry.request_id(), id=sweep_id)
    return await registry.sweeps.PauseSweep(request, timeout=TIMEOUT)


async def resume(registry: Any, sweep_id: str, request_id: str = "") -> sweeps_pb2.Sweep:
    request = sweeps_pb2.ResumeSweepRequest(request_id=request_id or registry.request_id(), id=sweep_id)
    return await registry.sweeps.ResumeSweep(request, timeout=TIMEOUT)


async def extend(registry: Any, sweep_id: str, num_samples: int, request_id: str = "") -> sweeps_pb2.Sweep:
    request = sweeps_pb2.ExtendSweepRequest(
        request_id=request_id or registry.request_id(), id=sweep_id, num_samples=num_samples
    )
    return await registry.sweeps.ExtendSweep(request, timeout=TIMEOUT)


async def cancel(registry: Any, sweep_id: str) -> sweeps_pb2.Sweep:
    request = sweeps_pb2.CancelSweepRequest(request_id=registry.request_id(), id=sweep_id)
    return await registry.sweeps.CancelSweep(request, timeout=TIMEOUT)


async def heartbeat(registry: Any, lease: common_pb2.Lease) -> jobs_pb2.SweepDirectives:
    return (await registry.heartbeat(lease)).sweep


async def commands(registry: Any) -> int:
    return (await registry.subjects("command")).count("tunix.cmd.tune")


async def facts(registry: Any) -> list[str]:
    return [subject.split(".")[3] for subject in await registry.subjects("fact") if ".sweep." in subject]


async def finished(registry: Any, n: int = 1) -> tuple[sweeps_pb2.Sweep, common_pb2.Lease]:
    """A sweep of ``n`` trials that have all succeeded, while its tuner has not said so."""
    sweep, lease = await registry.claimed_sweep(num_samples=n)
    for number in range(n):
        await registry.score(await registry.train(await registry.trial(lease, number)), 0.5)
    return sweep, lease


async def test_a_paused_sweep_begins_no_trial_and_those_that_were_begun_go_on(registry: Any, refusal: Any) -> None:
    sweep, lease = await registry.claimed_sweep()
    trial = await registry.trial(lease, 0)
    assert not (await heartbeat(registry, lease)).paused
    paused = await pause(registry, sweep.id)
    assert (paused.state, paused.paused) == (RUNNING, True)
    assert (await heartbeat(registry, lease)).paused
    assert (await refusal(registry.trial(lease, 1))).kind is FailedPrecondition
    # What exists is still found.
    assert (await registry.trial(lease, 0)).id == trial.id
    await registry.release(lease)
    claim = await registry.claim(sweep.id)
    assert (claim.granted, claim.retry_after_seconds) == (False, 0)
    assert await commands(registry) == 1
    await registry.score(await registry.train(trial), 0.5)
    assert (await registry.get_sweep(sweep.id)).n_succeeded == 1
    resumed = await resume(registry, sweep.id)
    assert (resumed.state, resumed.paused) == (RUNNING, False)
    assert await commands(registry) == 2
    claim = await registry.claim(sweep.id)
    assert claim.granted
    assert (await registry.trial(claim.lease, 1)).number == 1
    assert await facts(registry) == ["created", "running", "paused", "resumed"]


async def test_a_queued_sweep_can_be_paused_before_any_tuner_has_it(registry: Any) -> None:
    sweep = await registry.create_sweep()
    assert (await pause(registry, sweep.id)).state == QUEUED
    assert not (await registry.claim(sweep.id)).granted
    await resume(registry, sweep.id)
    assert (await registry.claim(sweep.id)).granted


async def test_pausing_and_resuming_again_change_nothing(registry: Any, refusal: Any) -> None:
    sweep = await registry.create_sweep()
    request_id = registry.request_id()
    first = await pause(registry, sweep.id, request_id)
    assert await pause(registry, sweep.id, request_id) == first
    assert await pause(registry, sweep.id) == first
    assert (await refusal(pause(registry, "sweep-other", request_id))).kind is Conflict
    assert first.etag != sweep.etag
    request_id = registry.request_id()
    resumed = await resume(registry, sweep.id, request_id)
    # The answer to a request stays, though the sweep was paused again.
    await pause(registry, sweep.id)
    assert await resume(registry, sweep.id, request_id) == resumed
    assert (await registry.get_sweep(sweep.id)).paused
    await asyncio.gather(*(resume(registry, sweep.id) for _ in range(5)))
    assert await facts(registry) == ["created", "paused", "resumed", "paused", "resumed"]
    assert await commands(registry) == 3


async def test_a_sweep_that_is_resumed_before_its_tuner_let_go_is_sent_when_it_does(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep()
    await pause(registry, sweep.id)
    await resume(registry, sweep.id)
    assert await commands(registry) == 1
    await registry.release(lease)
    assert await commands(registry) == 2
    assert (await registry.claim(sweep.id)).granted


async def test_nothing_fails_a_paused_sweep_and_nothing_sends_it(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(max_attempts=1)
    await pause(registry, sweep.id)
    failed = await registry.end_sweep(lease, FAILED, retryable=True, reason=INTERNAL)
    assert failed.state == RUNNING
    await resume(registry, sweep.id)
    await registry.claim(sweep.id)
    await pause(registry, sweep.id)
    assert await registry.reap(after_seconds=20) == 1
    why = "no tuner would have it"
    undeliverable = await registry.database.run_write(
        lambda session: fail_undeliverable(session, SweepRow, sweep.id, why)
    )
    assert not undeliverable
    assert await sent_after_a_loss(registry) == 0
    current = await registry.get_sweep(sweep.id)
    assert (current.state, current.paused, await commands(registry)) == (RUNNING, True, 2)
    await resume(registry, sweep.id)
    assert await sent_after_a_loss(registry) == 1


async def test_a_paused_sweep_can_be_cancelled_and_one_that_has_ended_is_neither_paused_nor_resumed(
    registry: Any, refusal: Any
) -> None:
    sweep = await registry.create_sweep()
    await pause(registry, sweep.id)
    ended = await cancel(registry, sweep.id)
    assert (ended.state, ended.paused) == (common_pb2.JOB_STATE_CANCELLED, False)
    for call in (pause(registry, sweep.id), resume(registry, sweep.id), extend(registry, sweep.id, 9)):
        assert (await refusal(call)).kind is FailedPrecondition


async def test_a_running_sweep_grows_and_its_tuner_hears_of_it(registry: Any, refusal: Any) -> None:
    sweep, lease = await finished(registry)
    assert (await heartbeat(registry, lease)).num_samples == 1
    request_id = registry.request_id()
    extended = await extend(registry, sweep.id, 2, request_id)
    assert (extended.state, extended.spec.num_samples, extended.trial_count) == (RUNNING, 2, 2)
    assert await extend(registry, sweep.id, 2, request_id) == extended
    assert (await heartbeat(registry, lease)).num_samples == 2
    assert (await refusal(registry.end_sweep(lease, SUCCEEDED))).kind is FailedPrecondition
    await registry.score(await registry.train(await registry.trial(lease, 1)), 0.75)
    assert (await registry.end_sweep(lease, SUCCEEDED)).state == SUCCEEDED
    assert await facts(registry) == ["created", "running", "extended", "succeeded"]
    assert await commands(registry) == 1


async def test_a_sweep_that_has_succeeded_goes_on_with_what_it_knows(registry: Any) -> None:
    sweep, lease = await finished(registry)
    done = await registry.end_sweep(lease, SUCCEEDED)
    extended = await extend(registry, sweep.id, 3)
    assert (extended.state, extended.trial_count, extended.n_succeeded) == (QUEUED, 3, 1)
    assert (extended.HasField("end_time"), extended.best_trial_id) == (False, done.best_trial_id)
    assert (await facts(registry))[-2:] == ["succeeded", "extended"]
    assert await commands(registry) == 2
    claim = await registry.claim(sweep.id, "tuner-2")
    assert [trial.number for trial in await registry.trials(sweep.id)] == [0]
    for number, score in ((1, 0.25), (2, 0.9)):
        await registry.score(await registry.train(await registry.trial(claim.lease, number)), score)
    ended = await registry.end_sweep(claim.lease, SUCCEEDED)
    assert (ended.state, ended.n_succeeded) == (SUCCEEDED, 3)
    assert ended.best_trial_id == (await registry.trials(sweep.id))[2].id
    assert await registry.history(sweep.id) == ["QUEUED", "RUNNING", "SUCCEEDED", "QUEUED", "RUNNING", "SUCCEEDED"]


async def test_a_failed_sweep_gets_all_its_attempts_again(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(max_attempts=2)
    await registry.end_sweep(lease, FAILED, retryable=True, reason=INTERNAL)
    lease = (await registry.claim(sweep.id)).lease
    assert (await registry.end_sweep(lease, FAILED, retryable=True, reason=INTERNAL)).state == FAILED
    extended = await extend(registry, sweep.id, 4)
    assert (extended.state, extended.reason, extended.message) == (QUEUED, 0, "")
    lease = (await registry.claim(sweep.id)).lease
    assert (await registry.end_sweep(lease, FAILED, retryable=True, reason=INTERNAL)).state == RUNNING


@pytest.mark.parametrize(("repeats", "num_samples"), [(1, 3), (1, 2), (1, -1), (1, 10_001), (100, 101)])
async def test_an_extension_asks_for_more_and_not_for_too_many(
    registry: Any, refusal: Any, repeats: int, num_samples: int
) -> None:
    sweep = await registry.create_sweep(num_samples=3, repeats=repeats)
    refused = await refusal(extend(registry, sweep.id, num_samples))
    assert (refused.kind, refused.fields) == (InvalidInput, ["num_samples"])
    assert (await registry.get_sweep(sweep.id)).spec.num_samples == 3


async def test_a_paused_sweep_grows_and_stays_paused(registry: Any) -> None:
    sweep = await registry.create_sweep()
    await pause(registry, sweep.id)
    extended = await extend(registry, sweep.id, 5)
    assert (extended.paused, extended.spec.num_samples) == (True, 5)
    assert await commands(registry) == 1


async def test_an_extension_and_the_end_at_once_never_lose_the_extension(registry: Any) -> None:
    for _ in range(4):
        sweep, lease = await finished(registry)
        await asyncio.gather(
            registry.end_sweep(lease, SUCCEEDED, sweep=jobs_pb2.SweepResult(num_samples=1)),
            extend(registry, sweep.id, 2),
        )
        current = await registry.get_sweep(sweep.id)
        assert current.trial_count == 2
        # Either it ended first and was queued again, or it had grown and was handed back.
        outcomes = await registry.outcomes(sweep.id)
        assert (current.state, outcomes) in ((QUEUED, ["SUCCEEDED"]), (RUNNING, ["RELEASED"]))
        assert (await registry.claim(sweep.id)).granted


async def test_a_sweep_that_grew_before_the_report_is_handed_back_and_one_that_did_not_is_refused(
    registry: Any, refusal: Any
) -> None:
    sweep, lease = await finished(registry)
    await extend(registry, sweep.id, 3)
    # The tuner that it was extended for said so too early: trials are missing.
    refused = await refusal(registry.end_sweep(lease, SUCCEEDED, sweep=jobs_pb2.SweepResult(num_samples=3)))
    assert refused.kind is FailedPrecondition
    assert "1 of 3 trials" in refused.text
    before = await commands(registry)
    handed_back = await registry.complete(lease, SUCCEEDED, sweep=jobs_pb2.SweepResult(num_samples=1))
    assert (handed_back, await commands(registry)) == (RUNNING, before + 1)
    (attempt,) = await registry.attempts(sweep.id)
    assert attempt.outcome == jobs_pb2.ATTEMPT_OUTCOME_RELEASED
    assert attempt.message == "the sweep was extended when its last trial had ended"


async def test_a_pause_and_the_end_at_once_leave_an_ended_sweep(registry: Any) -> None:
    for _ in range(4):
        sweep, lease = await finished(registry)
        ended, _ = await asyncio.gather(
            registry.end_sweep(lease, SUCCEEDED), pause(registry, sweep.id), return_exceptions=True
        )
        assert not isinstance(ended, BaseException)
        current = await registry.get_sweep(sweep.id)
        assert (current.state, current.paused) == (SUCCEEDED, False)
        # Nothing of the pause is left to hold back what is asked for later.
        await extend(registry, sweep.id, 2)
        assert (await registry.claim(sweep.id)).granted


async def test_an_old_tuner_does_not_hear_of_a_pause(registry: Any, refusal: Any) -> None:
    sweep, old = await registry.claimed_sweep()
    await pause(registry, sweep.id)
    await registry.release(old)
    assert (await refusal(heartbeat(registry, old))).kind is Aborted


async def test_roles_of_what_changes_a_sweep(registry: Any, refusal: Any) -> None:
    async def channel(role: str) -> grpc.aio.Channel:
        def make(session: Session) -> str:
            add_principal(session, f"a-{role}", kind="user", roles=[role], actor="the test")
            return add_token(session, f"a-{role}")[1]

        return registry.channel(await registry.database.run_write(make))

    channels = [await channel(role) for role in ("viewer", "editor", "worker")]
    viewer, editor, worker = [sweeps_pb2_grpc.SweepServiceStub(each) for each in channels]
    sweep = await registry.create_sweep()
    claim = jobs_pb2.ClaimRequest(job_id=sweep.id, worker_id="tuner-1")
    lease = (await jobs_pb2_grpc.JobServiceStub(channels[2]).Claim(claim, timeout=TIMEOUT)).lease
    trial = sweeps_pb2.CreateTrialRequest(lease=lease, number=0)
    trial.parameters.update({"learning_rate": 0.01, "per_device_batch_size": 4})
    await worker.CreateTrial(trial, timeout=TIMEOUT)
    ids = {"id": sweep.id}
    for call in (
        viewer.PauseSweep(sweeps_pb2.PauseSweepRequest(request_id=registry.request_id(), **ids), timeout=TIMEOUT),
        viewer.ResumeSweep(sweeps_pb2.ResumeSweepRequest(request_id=registry.request_id(), **ids), timeout=TIMEOUT),
        viewer.ExtendSweep(
            sweeps_pb2.ExtendSweepRequest(request_id=registry.request_id(), num_samples=9, **ids), timeout=TIMEOUT
        ),
        editor.StopTrial(sweeps_pb2.StopTrialRequest(lease=lease, number=0), timeout=TIMEOUT),
    ):
        assert (await refusal(call)).kind is PermissionDenied
    request = sweeps_pb2.PauseSweepRequest(request_id=registry.request_id(), **ids)
    assert (await editor.PauseSweep(request, timeout=TIMEOUT)).paused
    watched = viewer.WatchTrial(sweeps_pb2.WatchTrialRequest(sweep_id=sweep.id, number=0), timeout=TIMEOUT)
    assert (await watched.read()).trial.number == 0
    results = await viewer.GetSweepResults(sweeps_pb2.GetSweepResultsRequest(**ids), timeout=TIMEOUT)
    assert results.sweep.id == sweep.id
    stopped = await worker.StopTrial(sweeps_pb2.StopTrialRequest(lease=lease, number=0), timeout=TIMEOUT)
    assert stopped.state == common_pb2.JOB_STATE_CANCELLED


async def sent_after_a_loss(registry: Any) -> int:
    """How many commands are sent when JetStream has lost all that were published."""

    def lose(session: Session) -> int:
        session.execute(update(OutboxRow).values(published_time=utc_now()))
        return reconcile_commands(session, []).sent

    return await registry.database.run_write(lose)
