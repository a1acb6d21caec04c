"""Exceptions from guards, and who may make them: a waiver takes two principals, and nobody promotes one's own work.

On a platform of a single user nobody else could: there it is allowed, and the history says so.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy.orm import Session

from tunix_rt.errors import FailedPrecondition, FieldViolation, InvalidInput, NotFound, PermissionDenied
from tunix_rt.registry.evaluations.rules import get_evaluation
from tunix_rt.registry.gates.rules import get_policy
from tunix_rt.registry.gates.tables import GateDecisionRow
from tunix_rt.registry.kernel.projects import own_project
from tunix_rt.registry.kernel.rows import new_id, utc_now
from tunix_rt.registry.models.rules import get_model
from tunix_rt.registry.models.tables import AliasRow, ModelVersionRow, WaiverRow
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.v1 import models_pb2 as pb

SINGLE_USER: Final = "single-user platform"
_ASK: Final = "ask for a waiver (RequestWaiver), and let another approver use it"


def request_waiver(session: Session, request: pb.RequestWaiverRequest, *, actor: str) -> WaiverRow:
    """A waiver for the alias as it is now.

    Raises `NotFound`, `InvalidInput` for a version of another model, and `FailedPrecondition` for an alias without a
    guard.
    """
    name = f"{request.model_name}@{request.alias}"
    row = session.get(AliasRow, (own_project(session), request.model_name, request.alias))
    if row is None:
        raise NotFound(f"there is no alias {name}")
    if row.gate_policy_id is None:
        raise FailedPrecondition(f"{name} is not guarded: it needs no waiver")
    model_id, policy_id = None, None
    if request.WhichOneof("change") == "model_id":
        model = get_model(session, request.model_id)
        if model.name != request.model_name:
            raise InvalidInput([FieldViolation("model_id", f"{model.id} is a version of {model.name!r}")])
        model_id = model.id
    elif request.gate_policy_id:
        policy_id = get_policy(session, request.gate_policy_id).id
    waiver = WaiverRow(
        id=new_id("waiver"),
        model_name=request.model_name,
        alias=request.alias,
        model_id=model_id,
        gate_policy_id=policy_id,
        reason=request.reason,
        requested_by=actor,
        alias_revision=row.revision,
        create_time=utc_now(),
    )
    session.add(waiver)
    session.flush()
    return waiver


def granted(
    session: Session,
    waiver_id: str,
    row: AliasRow,
    *,
    actor: str,
    single_user: bool,
    model_id: str | None,
    policy_id: str | None,
) -> WaiverRow:
    """The waiver, which allows ``actor`` exactly this change of the alias.

    ``model_id`` is the version that the alias is to move to; None: it is to be guarded by ``policy_id``, None for none.
    Raises `NotFound`, `FailedPrecondition` for a waiver of another change or of the alias as it was before, and
    `PermissionDenied` for who asked for it.
    """
    waiver = session.get(WaiverRow, waiver_id)
    if waiver is None:
        raise NotFound(f"there is no waiver {waiver_id!r}")
    if (waiver.model_name, waiver.alias) != (row.model_name, row.alias) or (
        waiver.model_id,
        waiver.gate_policy_id,
    ) != (model_id, policy_id):
        raise FailedPrecondition(f"waiver {waiver.id} is for another change")
    if waiver.alias_revision != row.revision:
        raise FailedPrecondition(f"waiver {waiver.id} is stale: {row.model_name}@{row.alias} has changed since")
    if waiver.requested_by == actor and not single_user:
        raise PermissionDenied(
            f"separation of duties: {actor!r} has asked for waiver {waiver.id}; another approver has to use it"
        )
    return waiver


def refuse_alone(what: str) -> PermissionDenied:
    """Why one person alone may not do ``what``."""
    return PermissionDenied(f"separation of duties: {what} needs a second person: {_ASK}")


def check_separation(
    session: Session, row: AliasRow, model: ModelVersionRow, decision: GateDecisionRow | None, *, actor: str
) -> None:
    """Raise `PermissionDenied`, naming all of it, where ``actor`` has made what is to be approved."""
    made = {"the model": model.created_by}
    run = None if model.run_id is None else session.get(RunRow, model.run_id)
    if run is not None:
        made["the run"] = run.created_by
    if decision is not None:
        made["the evaluation"] = get_evaluation(session, decision.candidate_evaluation_id).created_by
        made["the gate decision"] = decision.actor
    own = [what for what, creator in made.items() if creator == actor]
    if own:
        raise PermissionDenied(
            f"separation of duties: {actor!r} has created {', '.join(own)}, so another approver has to move "
            f"{row.model_name}@{row.alias}"
        )
