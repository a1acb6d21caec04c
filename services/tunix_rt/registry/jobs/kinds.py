"""The kinds of jobs: how each is shown in facts, which command makes a worker claim it, and who follows its
transitions; and what those that workers claim add to the worker protocol.

A new kind is one entry in each table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tunix_rt.bus.topology import EVALUATE_SUBJECT, TRAIN_SUBJECT, TUNE_SUBJECT
from tunix_rt.contract.identifiers import POOL
from tunix_rt.errors import NotFound
from tunix_rt.registry.evaluations.attempts import EVALUATION
from tunix_rt.registry.evaluations.messages import evaluation_message
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.gates.rules import decide_for_run
from tunix_rt.registry.jobs.kind import JobKind
from tunix_rt.registry.kernel.job_tables import JobColumns
from tunix_rt.registry.kernel.resources import Job
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.retention import checkpoints
from tunix_rt.registry.runs.attempts import RUN
from tunix_rt.registry.runs.messages import run_message
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.registry.sweeps import progress, rules
from tunix_rt.registry.sweeps.attempts import SWEEP
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow
from tunix_rt.v1 import events_pb2 as pb
from tunix_rt.v1 import jobs_pb2

# Ends after which a job may be tried again.
RETRIED: Final = frozenset({JobState.FAILED, JobState.CANCELLED})
JOBS: Final[Mapping[type[JobColumns], Job[Any]]] = {
    RunRow: Job(
        "run",
        lambda _, run: run_message(run),
        pb.RunEvent,
        command=lambda run: f"{TRAIN_SUBJECT}.{run.pool}",
        on_transition=[progress.run_transitioned],
        reopens=RETRIED,
        on_end=[checkpoints.run_ended],
    ),
    EvaluationRow: Job(
        "evaluation",
        lambda _, evaluation: evaluation_message(evaluation),
        pb.EvaluationEvent,
        command=lambda _: EVALUATE_SUBJECT,
        on_end=[progress.evaluation_ended, decide_for_run],
        reopens=RETRIED,
    ),
    SweepRow: Job(
        "sweep",
        rules.sweep_with_trials,
        pb.SweepEvent,
        reuse=False,
        command=lambda _: TUNE_SUBJECT,
        fact=rules.fact_of,
        on_end=[rules.cancel_trials, checkpoints.sweep_ended],
        is_paused=lambda sweep: sweep.paused,
        reopens=RETRIED | {JobState.SUCCEEDED},
    ),
    # Follows its run: nobody claims it.
    TrialRow: Job(
        "trial",
        progress.trial_with_report,
        pb.TrialEvent,
        reuse=False,
        fact=progress.fact_of,
        on_transition=[progress.notify_sweep],
    ),
}

# By the prefix of their ids.
KINDS: Final[Mapping[str, JobKind[Any]]] = {"run": RUN, "eval": EVALUATION, "sweep": SWEEP}


def kind_of(job_id: str) -> JobKind[Any]:
    """The kind of a job. Raises `NotFound` for what is no id of a job."""
    kind = KINDS.get(job_id.partition("-")[0])
    if kind is None:
        raise NotFound(f"there is no {', '.join(kind.name for kind in KINDS.values())} {job_id!r}")
    return kind


def retry_command(job_id: str) -> str:
    """What to type to have the job tried again."""
    return f"tunix-rt {kind_of(job_id).name}s retry {job_id}"


def table_of(job_id: str) -> type[JobColumns] | None:
    """The table of a job or a trial; None for what is no id of one."""
    prefix = job_id.partition("-")[0]
    return TrialRow if prefix == "trial" else KINDS[prefix].table if prefix in KINDS else None


def command_subject(kind: jobs_pb2.JobKind.ValueType, pool: str) -> str:
    """The subject of the commands that workers of a kind (and pool, for runs) take; empty for an unknown one."""
    subjects = {
        jobs_pb2.JOB_KIND_RUN: f"{TRAIN_SUBJECT}.{pool}" if POOL.fullmatch(pool) else "",
        jobs_pb2.JOB_KIND_EVALUATION: EVALUATE_SUBJECT,
        jobs_pb2.JOB_KIND_SWEEP: TUNE_SUBJECT,
    }
    return subjects.get(kind, "")
