"""Leases: one writer at a time, and lost workers are replaced as often as the job allows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import col, select, update

from tunix_rt.errors import Aborted, NotFound
from tunix_rt.registry.jobs.reaper import extend_leases, fail_undeliverable, reap
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.job_tables import AttemptRow
from tunix_rt.registry.kernel.leases import JobProgress, Lease
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.kernel.reconcile import reconcile_commands
from tunix_rt.registry.runs.tables import RunRow

TTL = timedelta(seconds=15)
T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


class Job:
    """One run, and a worker's acts on it at given seconds."""

    def __init__(self, database: Database, new_run: Callable[..., RunRow], **fields: int) -> None:
        self.database = database
        with database.write() as session:
            self.id = new_run(session, **fields).id

    def claim(self, seconds: float, worker: str = "w1") -> leases.Claim:
        with self.database.write() as session:
            _, claim = leases.claim(
                session, RunRow, self.id, principal=worker, worker_id=worker, environment={}, ttl=TTL, now=at(seconds)
            )
            return claim

    def granted(self, seconds: float, worker: str = "w1") -> Lease:
        lease = self.claim(seconds, worker).lease
        assert lease is not None
        return lease

    def beat(self, lease: Lease, seconds: float) -> Lease:
        with self.database.write() as session:
            return leases.heartbeat(session, RunRow, lease, progress=None, ttl=TTL, now=at(seconds))[1]

    @property
    def row(self) -> RunRow:
        with self.database.read() as session:
            return session.get_one(RunRow, self.id)

    @property
    def outcomes(self) -> list[str]:
        with self.database.read() as session:
            rows = session.scalars(
                select(AttemptRow).where(col(AttemptRow.job_id) == self.id).order_by(col(AttemptRow.number))
            )
            return [row.outcome for row in rows]

    @property
    def commands(self) -> int:
        with self.database.read() as session:
            return len(session.scalars(select(OutboxRow).where(col(OutboxRow.kind) == "command")).all())


@pytest.fixture
def job(database: Database, new_run: Callable[..., RunRow]) -> Job:
    return Job(database, new_run)


def test_a_claim_starts_the_job_with_epoch_one(job: Job) -> None:
    lease = job.granted(0)
    assert (lease.epoch, lease.expire_time) == (1, at(15))
    assert (job.row.state, job.row.start_time, job.row.worker_id) == ("RUNNING", at(0), "w1")


def test_a_held_lease_is_refused_with_the_time_that_it_has_left(job: Job) -> None:
    job.granted(0)
    claim = job.claim(5, "w2")
    assert (claim.granted, claim.retry_after_seconds) == (False, 10.0)
    # Not even its own holder gets a second one: two processes may share a name.
    assert not job.claim(5, "w1").granted
    assert job.outcomes == ["running"]


def test_an_expired_lease_is_taken_over_with_the_next_epoch(job: Job) -> None:
    first = job.granted(0)
    second = job.granted(15.001, "w2")
    assert second.epoch == 2
    assert job.outcomes == ["lost", "running"]
    with pytest.raises(Aborted, match="epoch 1"):
        job.beat(first, 16)
    assert job.beat(second, 16).expire_time == at(31)


def test_a_late_holder_that_nobody_replaced_goes_on(job: Job) -> None:
    lease = job.granted(0)
    assert job.beat(lease, 100).expire_time == at(115)
    assert job.outcomes == ["running"]


@pytest.mark.parametrize("change", [{"epoch": 2}, {"epoch": 0}, {"attempt_id": "att-of-another"}])
def test_a_lease_with_another_epoch_or_attempt_is_refused(job: Job, change: dict[str, int | str]) -> None:
    from dataclasses import replace

    lease = job.granted(0)
    with pytest.raises(Aborted):
        job.beat(replace(lease, **change), 1)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        job.beat(replace(lease, job_id="run-of-another"), 1)


def test_heartbeats_store_progress(job: Job) -> None:
    lease = job.granted(0)
    with job.database.write() as session:
        leases.heartbeat(session, RunRow, lease, progress=JobProgress(7, 10, "steps", "training"), ttl=TTL, now=at(1))
    row = job.row
    assert (row.progress_done, row.progress_total, row.progress_unit, row.progress_stage) == (
        7,
        10,
        "steps",
        "training",
    )
    assert row.lease_expire_time == at(16)


def test_the_reaper_sends_the_command_of_a_lost_worker_once(job: Job) -> None:
    job.granted(0)
    assert reap(job.database, at(14)) == 0
    assert reap(job.database, at(16)) == 1
    assert reap(job.database, at(17)) == 0
    assert (job.row.state, job.commands, job.outcomes) == ("RUNNING", 2, ["lost"])


def test_a_job_fails_when_its_worker_was_lost_max_attempts_times(
    database: Database, new_run: Callable[..., RunRow]
) -> None:
    job = Job(database, new_run, max_attempts=2)
    job.granted(0)
    reap(database, at(20))
    job.granted(30)
    reap(database, at(50))
    row = job.row
    assert (row.state, row.reason, job.outcomes) == ("FAILED", "WORKER_LOST", ["lost", "lost"])
    assert "2 times" in row.message
    claim = job.claim(60)
    assert (claim.granted, claim.retry_after_seconds) == (False, 0)


def test_a_claim_that_finds_the_last_attempt_lost_fails_the_job(
    database: Database, new_run: Callable[..., RunRow]
) -> None:
    job = Job(database, new_run, max_attempts=1)
    job.granted(0)
    assert not job.claim(20, "w2").granted
    assert (job.row.state, job.row.reason) == ("FAILED", "WORKER_LOST")


def test_released_attempts_do_not_count(database: Database, new_run: Callable[..., RunRow]) -> None:
    job = Job(database, new_run, max_attempts=1)
    for number in range(4):
        lease = job.granted(number)
        with database.write() as session:
            leases.release(session, RunRow, lease, message="preempted", now=at(number + 0.5))
    row = job.row
    assert (row.state, row.attempts, row.failures) == ("RUNNING", 4, 0)
    assert job.outcomes == ["released"] * 4
    # One with the creation, one at once with each release.
    assert job.commands == 5


def test_a_retryable_failure_is_tried_again_until_attempts_run_out(
    database: Database, new_run: Callable[..., RunRow]
) -> None:
    job = Job(database, new_run, max_attempts=2)
    for expected in ("RUNNING", "FAILED"):
        lease = job.granted(0)
        with database.write() as session:
            row = leases.check(session, RunRow, lease)
            leases.fail_attempt(session, row, retryable=True, reason="OUT_OF_MEMORY", message="oom", now=at(1))
        assert job.row.state == expected
    assert (job.row.reason, job.outcomes, job.commands) == ("OUT_OF_MEMORY", ["failed", "failed"], 2)


def test_cancelling_waits_for_a_live_worker_and_for_nobody_else(job: Job) -> None:
    lease = job.granted(0)
    with job.database.write() as session:
        row = leases.lock_job(session, RunRow, job.id)
        leases.cancel(session, row, reason="USER_CANCELLED", message="enough", actor="me", now=at(1))
    assert job.row.state == "CANCELLING"
    job.beat(lease, 2)
    assert reap(job.database, at(10)) == 0
    assert reap(job.database, at(18)) == 1
    row = job.row
    assert (row.state, row.reason, row.message, job.outcomes) == ("CANCELLED", "USER_CANCELLED", "enough", ["lost"])
    assert job.commands == 1


def test_a_claim_of_a_job_that_is_being_cancelled_without_worker_ends_it(job: Job) -> None:
    job.granted(0)
    with job.database.write() as session:
        row = leases.lock_job(session, RunRow, job.id)
        leases.cancel(session, row, reason="USER_CANCELLED", message="", actor="me", now=at(1))
    assert not job.claim(20, "w2").granted
    assert job.row.state == "CANCELLED"


def test_a_running_job_without_worker_is_cancelled_at_once(job: Job) -> None:
    job.granted(0)
    reap(job.database, at(20))
    with job.database.write() as session:
        row = leases.lock_job(session, RunRow, job.id)
        leases.cancel(session, row, reason="USER_CANCELLED", message="", actor="me", now=at(21))
    assert job.row.state == "CANCELLED"


def test_a_deadline_cancels_with_its_reason(database: Database, new_run: Callable[..., RunRow]) -> None:
    job = Job(database, new_run, deadline_seconds=30)
    lease = job.granted(0)
    for seconds in (10, 20, 29):
        job.beat(lease, seconds)
    assert reap(database, at(29.5)) == 0
    assert reap(database, at(30)) == 1
    assert (job.row.state, job.row.cancel_reason) == ("CANCELLING", "DEADLINE")
    assert reap(database, at(50)) == 1
    assert (job.row.state, job.row.reason) == ("CANCELLED", "DEADLINE")
    assert "30 s" in job.row.message


def test_waiting_in_the_queue_does_not_use_up_a_deadline(database: Database, new_run: Callable[..., RunRow]) -> None:
    job = Job(database, new_run, deadline_seconds=30)
    assert reap(database, at(10_000)) == 0
    job.granted(20_000)
    assert job.row.deadline_time == at(20_030)


def test_lost_commands_are_sent_again_for_jobs_that_nobody_works_on(
    database: Database, new_run: Callable[..., RunRow]
) -> None:
    queued, running, lost, ended = (Job(database, new_run) for _ in range(4))
    running.granted(100)
    lost.granted(0)
    with database.write() as session:
        row = leases.lock_job(session, RunRow, ended.id)
        leases.cancel(session, row, reason="USER_CANCELLED", message="", actor="me")
        session.execute(update(OutboxRow).values(published_time=at(0)))
    assert reap(database, at(101)) == 1  # which also sends the command of the lost one
    with database.write() as session:
        assert reconcile_commands(session, []).sent == 1
    with database.read() as session:
        sent = session.scalars(select(OutboxRow).where(col(OutboxRow.kind) == "command")).all()
    assert sorted(row.resource_id for row in sent[4:]) == sorted([queued.id, lost.id])
    assert len({row.id for row in sent}) == 6


def test_the_registrys_own_absence_costs_no_worker_its_lease(job: Job) -> None:
    lease = job.granted(0)
    with job.database.write() as session:
        extend_leases(session, TTL, at(600))
    assert reap(job.database, at(610)) == 0
    assert job.beat(lease, 611).expire_time == at(626)


def test_an_undeliverable_command_fails_a_waiting_job_but_not_a_leased_one(
    database: Database, new_run: Callable[..., RunRow]
) -> None:
    waiting, leased = Job(database, new_run), Job(database, new_run)
    leased.granted(0)
    for job in (waiting, leased):
        with database.write() as session:
            fail_undeliverable(session, RunRow, job.id, "delivered 5 times")
    assert (waiting.row.state, waiting.row.reason) == ("FAILED", "UNDELIVERABLE")
    assert leased.row.state == "RUNNING"
