"""Aliases and the history of their moves: who holds a name, and what allowed it to change hands.

An alias that a gate policy guards moves on a fresh PASS against its holder, or on a waiver that is stored for good; and
never by who made what is promoted. To take the guard off, or to loosen it, is an exception like any other.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import Aborted, FailedPrecondition, FieldViolation, InvalidInput, NotFound, PermissionDenied
from tunix_rt.registry.gates.rules import get_decision, get_policy, rules_of
from tunix_rt.registry.gates.strictness import at_least_as_strict
from tunix_rt.registry.gates.tables import GateDecisionRow
from tunix_rt.registry.kernel.outbox import emit_fact
from tunix_rt.registry.kernel.projects import own_project
from tunix_rt.registry.kernel.rows import check_replaces, lock_name, new_id, utc_now
from tunix_rt.registry.models import waivers
from tunix_rt.registry.models.rules import get_model
from tunix_rt.registry.models.tables import AliasRow, ModelVersionRow, PromotionRow
from tunix_rt.v1 import models_pb2 as pb


def set_alias(
    session: Session, move: pb.SetAliasRequest, *, actor: str, may_waive: bool, single_user: bool
) -> AliasRow:
    """Give the alias to another version; the move becomes a row of the promotion history.

    ``may_waive``: the caller holds the role that a waiver needs. ``single_user``: there is nobody else.
    Giving it to its holder again changes nothing. Raises `Aborted` for a stale etag (of racing moves one wins), which a
    missing one is too, but `InvalidInput` where a policy guards the alias; `FailedPrecondition` when the policy is not
    met; `PermissionDenied` for a waiver without the role or without a second person, and for who made what is promoted.
    """
    lock_name(session, "alias", f"{move.model_name}@{move.alias}")
    model = get_model(session, move.model_id)
    if model.name != move.model_name:
        raise InvalidInput([FieldViolation("model_id", f"{model.id} is a version of {model.name!r}")])
    row = _locked(session, move.model_name, move.alias)
    _check_etag(move.etag, row, move.model_name, move.alias)
    if (move.waiver_reason or move.waiver_id) and not may_waive:
        raise PermissionDenied("a waiver needs the role approver")
    decision = get_decision(session, move.gate_decision_id) if move.gate_decision_id else None
    if row is not None and row.model_id == model.id:
        return row
    waiver = None
    guard = "" if row is None else row.gate_policy_id or ""
    if row is not None and move.waiver_id:
        waiver = waivers.granted(
            session, move.waiver_id, row, actor=actor, single_user=single_user, model_id=model.id, policy_id=None
        )
    if row is not None and guard:
        if not (waiver or move.waiver_reason):
            _check_gate(session, row, model, decision)
        if not single_user:
            if not waiver and move.waiver_reason:
                raise waivers.refuse_alone("a waiver")
            waivers.check_separation(session, row, model, decision, actor=actor)

    now = utc_now()
    held_by = "" if row is None else row.model_id
    if row is None:
        row = AliasRow(model_name=move.model_name, alias=move.alias, model_id=model.id, move_time=now, update_time=now)
    else:
        row.model_id = model.id
        row.move_time = row.update_time = now
        row.revision += 1
    promotion = PromotionRow(
        id=new_id("promo"),
        model_name=move.model_name,
        alias=move.alias,
        from_model_id=held_by,
        to_model_id=model.id,
        gate_decision_id=move.gate_decision_id,
        waiver_reason=waiver.reason if waiver else move.waiver_reason,
        actor=actor,
        create_time=now,
        from_gate_policy_id=guard,
        to_gate_policy_id=guard,
        waiver_id=waiver.id if waiver else "",
        waiver_requested_by=waiver.requested_by if waiver else "",
        note=waivers.SINGLE_USER if guard and single_user else "",
    )
    session.add_all((row, promotion))
    session.flush()
    _emit(session, row, "moved", promotion)
    return row


def set_policy(session: Session, change: pb.SetAliasPolicyRequest, *, actor: str, single_user: bool) -> AliasRow:
    """Guard the alias by a policy (id or name), or by none when empty; a row of the promotion history.

    Raises `NotFound`, `Aborted`, `InvalidInput` for a guard that is changed without a reason, and `PermissionDenied`
    where it is removed or loosened without a waiver of somebody else.
    """
    lock_name(session, "alias", f"{change.model_name}@{change.alias}")
    row = _locked(session, change.model_name, change.alias)
    if row is None:
        raise _no_alias(change.model_name, change.alias)
    _check_etag(change.etag, row, change.model_name, change.alias)
    policy = get_policy(session, change.gate_policy_id) if change.gate_policy_id else None
    policy_id = None if policy is None else policy.id
    before = row.gate_policy_id
    if before == policy_id:
        return row
    waiver = None
    if change.waiver_id:
        waiver = waivers.granted(
            session, change.waiver_id, row, actor=actor, single_user=single_user, model_id=None, policy_id=policy_id
        )
    if before is not None and waiver is None:
        if not change.reason.strip():
            raise InvalidInput([FieldViolation("reason", "is required: the alias has a guard already")])
        loosened = policy is None or not at_least_as_strict(rules_of(policy), rules_of(get_policy(session, before)))
        if loosened and not single_user:
            raise waivers.refuse_alone("to remove or to loosen a guard")
    now = utc_now()
    row.gate_policy_id = policy_id
    row.update_time = now
    row.revision += 1
    promotion = PromotionRow(
        id=new_id("promo"),
        model_name=row.model_name,
        alias=row.alias,
        from_model_id=row.model_id,
        to_model_id=row.model_id,
        waiver_reason=waiver.reason if waiver else "",
        actor=actor,
        create_time=now,
        from_gate_policy_id=before or "",
        to_gate_policy_id=policy_id or "",
        reason=change.reason,
        waiver_id=waiver.id if waiver else "",
        waiver_requested_by=waiver.requested_by if waiver else "",
        note=waivers.SINGLE_USER if before and single_user else "",
    )
    session.add_all((row, promotion))
    session.flush()
    _emit(session, row, "guarded", promotion)
    return row


def _emit(session: Session, row: AliasRow, what: str, promotion: PromotionRow) -> None:
    # A NATS subject has no empty tokens, a name may have dots side by side or at its end.
    subject_id = ".".join(filter(None, row.model_name.split(".")))
    emit_fact(session, row, what, resource_id=subject_id, promotion=promotion)


def get_alias(session: Session, model_name: str, alias: str) -> AliasRow:
    """The alias. Raises `NotFound`."""
    row = session.get(AliasRow, (own_project(session), model_name, alias))
    if row is None:
        raise _no_alias(model_name, alias)
    return row


def holder_at(session: Session, model_name: str, alias: str, at: datetime) -> PromotionRow:
    """The promotion that the holder of the alias at ``at`` got it by. Raises `NotFound` before the first."""
    row = session.scalars(
        select(PromotionRow)
        .where(
            PromotionRow.is_of(own_project(session)),
            col(PromotionRow.model_name) == model_name,
            col(PromotionRow.alias) == alias,
            col(PromotionRow.create_time) <= at,
            # A change of the guard is no move.
            col(PromotionRow.from_model_id) != col(PromotionRow.to_model_id),
        )
        .order_by(col(PromotionRow.create_time).desc(), col(PromotionRow.id).desc())
        .limit(1)
    ).first()
    if row is None:
        raise NotFound(f"nobody held {model_name}@{alias} at {at.isoformat()}")
    return row


def _check_gate(session: Session, row: AliasRow, model: ModelVersionRow, decision: GateDecisionRow | None) -> None:
    """Raise `FailedPrecondition`, naming all that ``decision`` lacks, unless it lets ``model`` take the alias."""
    name = f"{row.model_name}@{row.alias}"
    if decision is None:
        raise FailedPrecondition(
            f"{name} is guarded by gate policy {row.gate_policy_id}: give the id of a PASS of {model.id} against its "
            f"holder {row.model_id}, or a waiver reason"
        )
    holder = get_model(session, row.model_id)
    missing = []
    if decision.verdict != "PASS":
        missing.append(f"its verdict is {decision.verdict}, not PASS")
    if decision.policy_id != row.gate_policy_id:
        missing.append(f"it was decided by policy {decision.policy_id}, not by the alias's {row.gate_policy_id}")
    if not model.digest or decision.candidate_model_digest != model.digest:
        missing.append(f"its candidate is not model {model.id} ({model.digest or 'digest not known yet'})")
    if not holder.digest or decision.baseline_model_digest != holder.digest:
        missing.append(f"its baseline is not the holder {holder.id} ({holder.digest or 'digest not known yet'})")
    used = _promotion_by(session, row, decision)
    if used is not None:
        missing.append(f"it has let {name} move before, at {used.create_time.isoformat()}")
    elif decision.create_time <= row.move_time:
        missing.append(f"it is stale: the alias has moved since, at {row.move_time.isoformat()}")
    if missing:
        raise FailedPrecondition(f"gate decision {decision.id} does not let {name} move: {'; '.join(missing)}")


def _promotion_by(session: Session, row: AliasRow, decision: GateDecisionRow) -> PromotionRow | None:
    """The move of this alias that the decision was used for; asked of the history, because clocks may disagree."""
    return session.scalars(
        select(PromotionRow)
        .where(
            PromotionRow.is_of(row.project),
            col(PromotionRow.model_name) == row.model_name,
            col(PromotionRow.alias) == row.alias,
            col(PromotionRow.gate_decision_id) == decision.id,
        )
        .limit(1)
    ).first()


def _check_etag(given: str, row: AliasRow | None, model_name: str, alias: str) -> None:
    what = f"alias {model_name}@{alias}" + ("" if row is None else f", which {row.model_id} holds,")
    if row is not None and not row.gate_policy_id and not given:
        # Nothing is decided by it, and who creates it may have lost a race.
        raise Aborted(f"{what} exists, but no etag was sent; read it again (GetAlias)")
    check_replaces(given, None if row is None else row.revision, what, "GetAlias")


def _locked(session: Session, model_name: str, alias: str) -> AliasRow | None:
    key = (own_project(session), model_name, alias)
    return session.get(AliasRow, key, with_for_update=True, populate_existing=True)


def _no_alias(model_name: str, alias: str) -> NotFound:
    return NotFound(f"there is no alias {model_name}@{alias}")
