"""Where a trial of a population starts: whether the one that it replaces and the one that it goes on from allow it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from tunix_rt.errors import FailedPrecondition, Violations
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.states import JobState, is_terminal
from tunix_rt.registry.runs.catalogue import StoredCatalogue
from tunix_rt.registry.runs.initial_checkpoints import check_initial_checkpoint
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow
from tunix_rt.registry.sweeps.trials import find_trial, former_number
from tunix_rt.search_space.population import Origin
from tunix_rt.v1 import runs_pb2


def continued(
    session: Session, sweep: SweepRow, number: int, origin: Origin, run: runs_pb2.RunSpec
) -> runs_pb2.RunSpec:
    """``run`` as it starts from ``origin``.

    Raises `InvalidInput` for a parent or a predecessor that the sweep does not have, or from which such a run cannot
    start, and `FailedPrecondition` while the parent has no such checkpoint, or when the predecessor or its run has
    ended or is to end.
    """
    violations = Violations()
    parent = session.get(TrialRow, origin.parent_trial_id)
    if parent is None or parent.sweep_id != sweep.id:
        violations.add("origin.parent_trial_id", f"{sweep.id} has no trial {origin.parent_trial_id!r}")
    former = find_trial(session, sweep.id, former_number(sweep, number))
    if former is None:
        violations.add("origin.generation", f"trial {former_number(sweep, number)}, which it replaces, does not exist")
    elif former.id == origin.parent_trial_id:
        violations.add("origin.parent_trial_id", "a trial cannot start from the one that it replaces")
    violations.raise_if_any()
    assert parent is not None
    assert former is not None
    # A trial may wait for its score when its run has ended, and a run that a person cancels is not to come back.
    replaced = leases.lock_job(session, RunRow, former.run_id)
    if is_terminal(former) or replaced.state not in (JobState.QUEUED, JobState.RUNNING):
        raise FailedPrecondition(
            f"trial {former.number} is {former.state}, its run {replaced.state}: there is nothing to replace"
        )
    spec = runs_pb2.RunSpec()
    spec.CopyFrom(run)
    spec.initial_checkpoint.run_id, spec.initial_checkpoint.step = parent.run_id, origin.parent_step
    catalogue = StoredCatalogue(session)
    source = catalogue.checkpointed_run(parent.run_id)
    if source is None or origin.parent_step not in source.steps:
        raise FailedPrecondition(f"trial {parent.number} has no checkpoint of step {origin.parent_step}")
    check_initial_checkpoint(spec, catalogue, violations)
    violations.raise_if_any()
    return spec
