"""Sweeps in the worker protocol: what a tuner is given, its directives, and what it completes with."""

from __future__ import annotations

from typing import Final

from sqlalchemy.orm import Session

from tunix_rt.artifacts import ArtifactRoot
from tunix_rt.errors import Violations
from tunix_rt.registry.jobs.kind import JobKind
from tunix_rt.registry.sweeps import rules
from tunix_rt.registry.sweeps.tables import SweepRow, sweep_spec
from tunix_rt.v1 import jobs_pb2 as pb


def _payload(session: Session, sweep: SweepRow) -> pb.SweepPayload:
    return pb.SweepPayload(sweep=rules.sweep_with_trials(session, sweep))


def _directives(sweep: SweepRow) -> pb.SweepDirectives:
    return pb.SweepDirectives(paused=sweep.paused, num_samples=sweep_spec(sweep).num_samples)


def _read_result(result: pb.SweepResult, _: ArtifactRoot, violations: Violations) -> int:
    """How many samples the sweep was to have when it was claimed."""
    violations.check(result.num_samples >= 1, "num_samples", "must be at least 1")
    return result.num_samples


SWEEP: Final = JobKind(
    name="sweep",
    number=pb.JOB_KIND_SWEEP,
    table=SweepRow,
    payload=_payload,
    read_result=_read_result,
    succeed=rules.succeed,
    heartbeat=rules.heartbeat_sweep,
    directives=_directives,
)
