"""What all jobs have in common: which states end them."""

from __future__ import annotations

from typing import Protocol

from tunix_rt.v1 import common_pb2

TERMINAL = frozenset({common_pb2.JOB_STATE_SUCCEEDED, common_pb2.JOB_STATE_FAILED, common_pb2.JOB_STATE_CANCELLED})


class Job(Protocol):
    """A run, evaluation, sweep or trial."""

    @property
    def state(self) -> common_pb2.JobState.ValueType: ...


def has_ended(job: Job) -> bool:
    """Whether the job's state is one it never leaves."""
    return job.state in TERMINAL
