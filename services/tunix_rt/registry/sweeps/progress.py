"""How trials follow their runs: state, end, and the objective that the search algorithm learns from.

A trial of objective "primary_score" ends when the first evaluation of its run has ended; one of another objective ends
with its run, whose last value of that metric it takes.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from tunix_rt.contract.scores import PRIMARY_SCORE
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel.commits import notify_on_commit
from tunix_rt.registry.kernel.job_tables import TransitionRow
from tunix_rt.registry.kernel.states import JobState, Reason, is_terminal, transition
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.registry.sweeps.messages import trial_message
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow, sweep_spec
from tunix_rt.registry.sweeps.trials import report_of
from tunix_rt.v1 import sweeps_pb2 as pb


def run_transitioned(session: Session, run: RunRow) -> None:
    """Called with every transition of every run; moves its trial, if it has one."""
    trial = _trial_of(session, run.trial_id)
    if trial is None:
        return
    match JobState(run.state):
        case JobState.QUEUED:
            pass
        case JobState.RUNNING:
            _start(session, trial)
        case JobState.CANCELLING:
            _start_cancelling(session, trial, run.reason, run.message)
        case JobState.SUCCEEDED:
            _start(session, trial)
            _run_succeeded(session, trial, run)
        case JobState.FAILED | JobState.CANCELLED as state:
            _end(session, trial, state, run.reason, run.message or f"its run is {run.state}")


def evaluation_ended(session: Session, evaluation: EvaluationRow) -> None:
    """Called when an evaluation has ended, however it ended; gives its trial, if it decides one, objective and end."""
    if not evaluation.run_id or not is_terminal(evaluation):
        return
    run = session.get(RunRow, evaluation.run_id)
    if run is None or not run.trial_id or not run.evaluation_ids or run.evaluation_ids[0] != evaluation.id:
        return
    trial = _trial_of(session, run.trial_id)
    if trial is None or _metric_of(session, trial) != PRIMARY_SCORE:
        return
    trial.evaluation_id = evaluation.id
    if evaluation.state != JobState.SUCCEEDED:
        _end(
            session,
            trial,
            JobState(evaluation.state),
            evaluation.reason,
            f"evaluation {evaluation.id}: {evaluation.message}",
        )
    elif evaluation.primary_score is None:
        _end(session, trial, JobState.FAILED, Reason.INTERNAL, f"evaluation {evaluation.id} scored no item")
    else:
        trial.objective = evaluation.primary_score
        trial.ci_low, trial.ci_high = evaluation.ci_low, evaluation.ci_high
        _end(session, trial, JobState.SUCCEEDED, "", "")


def _run_succeeded(session: Session, trial: TrialRow, run: RunRow) -> None:
    metric = _metric_of(session, trial)
    if metric == PRIMARY_SCORE:
        if run.evaluation_ids:
            trial.evaluation_id = run.evaluation_ids[0]
            session.add(trial)
        else:
            _end(
                session,
                trial,
                JobState.FAILED,
                Reason.INVALID_SPEC,
                "its run asks for no evaluation to take a score from",
            )
    elif metric in run.last_metrics:
        trial.objective = float(run.last_metrics[metric][1])
        _end(session, trial, JobState.SUCCEEDED, "", "")
    else:
        _end(session, trial, JobState.FAILED, Reason.INVALID_SPEC, f"its run never reported the metric {metric!r}")


def _start(session: Session, trial: TrialRow) -> None:
    if trial.state == JobState.QUEUED:
        transition(session, trial, JobState.RUNNING)


def _start_cancelling(session: Session, trial: TrialRow, reason: str, message: str) -> None:
    if trial.state in (JobState.QUEUED, JobState.RUNNING):
        transition(session, trial, JobState.CANCELLING, reason=reason, message=message)


def _end(session: Session, trial: TrialRow, state: JobState, reason: str, message: str) -> None:
    if is_terminal(trial):
        return
    if state == JobState.CANCELLED:
        _start_cancelling(session, trial, reason, message)
    elif state == JobState.SUCCEEDED:
        _start(session, trial)
    transition(session, trial, state, reason=reason, message=message)


def _trial_of(session: Session, trial_id: str | None) -> TrialRow | None:
    return session.get(TrialRow, trial_id, with_for_update=True) if trial_id else None


def _metric_of(session: Session, trial: TrialRow) -> str:
    return sweep_spec(session.get_one(SweepRow, trial.sweep_id)).objective.metric


def trial_with_report(session: Session, trial: TrialRow) -> pb.Trial:
    """The trial as clients see it, with what its run has reported."""
    run = session.get(RunRow, trial.run_id)
    metric = sweep_spec(session.get_one(SweepRow, trial.sweep_id)).scheduling.metric
    report = report_of(run.last_metrics, run.progress_done, metric, trial.start) if run is not None else None
    return trial_message(trial, report)


def fact_of(transition: TransitionRow) -> str:
    """The name of the transition's fact; a trial that is to be cancelled has none."""
    if transition.to_state == JobState.CANCELLING:
        return ""
    return transition.to_state.lower() if transition.from_state else "created"


def notify_sweep(session: Session, trial: TrialRow) -> None:
    """Called with every transition of every trial; wakes who watches its sweep."""
    notify_on_commit(session, trial.sweep_id)
