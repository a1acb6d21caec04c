"""Requests of ModelService, checked field by field. Whether what they name exists is the domain's question."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from tunix_rt.errors import Violations
from tunix_rt.registry.gates import PolicySpec
from tunix_rt.registry.models import check_reference
from tunix_rt.registry.validation.fields import check_id, check_name, check_request_id, check_tags, check_text
from tunix_rt.v1 import models_pb2 as pb

MAX_REASON: Final = 2_000


def check_register(request: pb.RegisterModelRequest) -> None:
    """Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    check_name(violations, request.name, "name")
    check_reference(violations, request.reference, "reference")
    check_tags(violations, request.tags)
    violations.raise_if_any()


def check_set_alias(request: pb.SetAliasRequest) -> None:
    """Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    check_name(violations, request.model_name, "model_name")
    check_name(violations, request.alias, "alias")
    check_id(violations, request.model_id, "model_id")
    check_text(violations, request.waiver_reason, "waiver_reason", MAX_REASON)
    if request.waiver_reason:
        violations.check(bool(request.waiver_reason.strip()), "waiver_reason", "must say why")
        violations.check(
            not request.gate_decision_id, "gate_decision_id", "give a gate decision or a waiver reason, not both"
        )
    violations.raise_if_any()


def alias_instant(request: pb.GetAliasRequest) -> datetime | None:
    """The instant that is asked about; None is now. Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    check_name(violations, request.model_name, "model_name")
    check_name(violations, request.alias, "alias")
    instant = None
    if request.HasField("at"):
        try:
            instant = request.at.ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError):
            violations.add("at", "is not a time from year 1 to 9999")
    violations.raise_if_any()
    return instant


def check_set_alias_policy(request: pb.SetAliasPolicyRequest) -> None:
    """Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    check_name(violations, request.model_name, "model_name")
    check_name(violations, request.alias, "alias")
    violations.check(bool(request.etag), "etag", "is required: read the alias, then send its etag")
    violations.raise_if_any()


def check_lock_baseline(request: pb.LockBaselineRequest) -> None:
    """Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    check_name(violations, request.name, "name")
    check_id(violations, request.evaluation_id, "evaluation_id")
    check_text(violations, request.note, "note", MAX_REASON)
    violations.raise_if_any()


def policy_spec(request: pb.CreateGatePolicyRequest) -> PolicySpec:
    """The policy in ``request``, defaults filled in. Raises `InvalidInput`."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    check_name(violations, request.name, "name")
    spec = PolicySpec(
        name=request.name,
        margin=request.margin if request.HasField("margin") else PolicySpec.margin,
        alpha=request.alpha if request.HasField("alpha") else PolicySpec.alpha,
        min_coverage=request.min_coverage if request.HasField("min_coverage") else PolicySpec.min_coverage,
        min_effect=request.min_effect if request.HasField("min_effect") else PolicySpec.min_effect,
        baseline=request.baseline,
        description=request.description,
    )
    check = violations.check
    check(_finite(spec.margin) and 0 <= spec.margin < 1, "margin", "must be in [0, 1)")
    check(_finite(spec.alpha) and 0 < spec.alpha < 0.5, "alpha", "must be in (0, 0.5)")
    check(_finite(spec.min_coverage) and 0 <= spec.min_coverage <= 1, "min_coverage", "must be in [0, 1]")
    check(_finite(spec.min_effect) and 0 <= spec.min_effect < 1, "min_effect", "must be in [0, 1)")
    if spec.baseline:
        check_name(violations, spec.baseline, "baseline")
    check_text(violations, spec.description, "description", 10_000)
    violations.raise_if_any()
    return spec


def check_decide(request: pb.DecideGateRequest) -> None:
    """Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    check_id(violations, request.candidate_evaluation_id, "candidate_evaluation_id")
    against = request.WhichOneof("against")
    if against == "baseline":
        check_name(violations, request.baseline, "baseline")
    elif against == "baseline_evaluation_id":
        check_id(violations, request.baseline_evaluation_id, "baseline_evaluation_id")
        violations.check(
            request.baseline_evaluation_id != request.candidate_evaluation_id,
            "baseline_evaluation_id",
            "must be another evaluation than the candidate's",
        )
    violations.raise_if_any()


def _finite(value: float) -> bool:
    return math.isfinite(value)
