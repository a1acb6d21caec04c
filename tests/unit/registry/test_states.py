"""The state machine: no sequence of requests leaves the table, and nothing is done twice or forgotten."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import col, select

from tunix_rt.errors import FailedPrecondition
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.jobs.kinds import JOBS
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.job_tables import TransitionRow
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.kernel.states import REOPENINGS, TERMINAL, TRANSITIONS, JobState, Reason, transition
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow
from tunix_rt.v1 import common_pb2

# Written out by hand from the design, so that the table in the code has a peer.
ALLOWED = {
    "QUEUED": {"RUNNING", "CANCELLING", "FAILED"},
    "RUNNING": {"SUCCEEDED", "FAILED", "CANCELLING"},
    "CANCELLING": {"CANCELLED", "SUCCEEDED", "FAILED"},
    "SUCCEEDED": set(),
    "FAILED": set(),
    "CANCELLED": set(),
}
# A run, as an evaluation, may be tried again.
OF_RUNS = ALLOWED | {"FAILED": {"QUEUED"}, "CANCELLED": {"QUEUED"}}


def test_the_table_is_the_one_of_the_design() -> None:
    assert {state.value: {each.value for each in following} for state, following in TRANSITIONS.items()} == ALLOWED
    assert {state.value for state in TERMINAL} == {"SUCCEEDED", "FAILED", "CANCELLED"}


def test_what_has_ended_without_success_can_be_tried_again_and_a_sweep_that_succeeded_extended() -> None:
    found = {state.value: {each.value for each in following} for state, following in REOPENINGS.items()}
    assert found == {state: {"QUEUED"} for state in ("SUCCEEDED", "FAILED", "CANCELLED")}
    retried = {"FAILED", "CANCELLED"}
    assert {table: job.reopens for table, job in JOBS.items()} == {
        RunRow: retried,
        EvaluationRow: retried,
        SweepRow: retried | {"SUCCEEDED"},
        TrialRow: set(),
    }


def test_states_and_reasons_have_the_names_of_the_contract() -> None:
    states = {name.removeprefix("JOB_STATE_") for name in dict(common_pb2.JobState.items())} - {"UNSPECIFIED"}
    reasons = {name.removeprefix("REASON_") for name in dict(common_pb2.Reason.items())} - {"UNSPECIFIED"} | {""}
    assert states == {state.value for state in JobState}
    assert reasons == {reason.value for reason in Reason}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.lists(st.sampled_from(list(JobState)), max_size=8))
def test_any_sequence_of_moves_keeps_to_the_table_and_to_its_own_history(
    database: Database, new_run: Callable[..., RunRow], wanted: list[JobState]
) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with database.write() as session:
        run = new_run(session)
        moves = 0
        for number, to in enumerate(wanted, 1):
            before, revision = run.state, run.revision
            if to.value in OF_RUNS[before]:
                transition(session, run, to, actor="tester", now=start + timedelta(seconds=number))
                moves += 1
                if to == JobState.QUEUED:
                    assert (run.failures, run.end_time, run.deadline_time, run.cancel_reason) == (0, None, None, "")
                assert (run.state, run.revision) == (to.value, revision + 1)
            else:
                with pytest.raises(FailedPrecondition, match=before):
                    transition(session, run, to, actor="tester")
                assert (run.state, run.revision) == (before, revision)
        run_id = run.id
    with database.read() as session:
        stored = session.get_one(RunRow, run_id)
        rows = session.scalars(
            select(TransitionRow).where(col(TransitionRow.job_id) == run_id).order_by(col(TransitionRow.sequence))
        ).all()
        facts = session.scalars(
            select(OutboxRow.subject).where(col(OutboxRow.resource_id) == run_id, col(OutboxRow.kind) == "fact")
        ).all()
    assert rows[0].from_state == "" and rows[0].to_state == "QUEUED"
    assert len(rows) == moves + 1 == len(facts)
    for earlier, later in pairwise(rows):
        assert later.from_state == earlier.to_state
        assert later.to_state in OF_RUNS[later.from_state]
    assert stored.state == rows[-1].to_state
    assert (stored.end_time is not None) == (stored.state in {"SUCCEEDED", "FAILED", "CANCELLED"})
    assert (stored.start_time is not None) == any(row.to_state == "RUNNING" for row in rows)


def test_a_move_that_is_rolled_back_leaves_no_row_and_no_fact(
    database: Database, new_run: Callable[..., RunRow]
) -> None:
    with database.write() as session:
        run_id = new_run(session).id
    with pytest.raises(RuntimeError, match="power cut"), database.write() as session:
        transition(session, session.get_one(RunRow, run_id), JobState.RUNNING)
        raise RuntimeError("power cut")
    with database.read() as session:
        assert session.get_one(RunRow, run_id).state == "QUEUED"
        assert len(session.scalars(select(TransitionRow)).all()) == 1
        assert [row.kind for row in session.scalars(select(OutboxRow)).all()] == ["fact", "command"]
