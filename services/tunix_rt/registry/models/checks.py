"""Requests of ModelService, checked field by field. Whether what they name exists is the domain's question."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from tunix_rt.contract.scores import METRIC_KEY
from tunix_rt.errors import InvalidInput, Violations
from tunix_rt.quality.gate_policy import GatePolicy, SliceRule, SliceTier
from tunix_rt.quality.items import DIFFICULTIES, SECTIONS
from tunix_rt.registry.gates.rules import PolicySpec
from tunix_rt.registry.kernel.fields import check_id, check_name, check_request_id, check_tags, check_text
from tunix_rt.registry.models.messages import DIRECTIONS, TIERS
from tunix_rt.registry.models.rules import check_reference
from tunix_rt.v1 import models_pb2 as pb

MAX_REASON: Final = 2_000
MAX_SLICES: Final = 64
# The labels of the dimensions that have a fixed set of them.
_LABELS: Final = {"section": SECTIONS, "difficulty": DIFFICULTIES}


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
    ways = sum(map(bool, (request.gate_decision_id, request.waiver_reason, request.waiver_id)))
    violations.check(ways <= 1, "gate_decision_id", "give one of a gate decision, a waiver and a waiver reason")
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
    check_text(violations, request.reason, "reason", MAX_REASON)
    violations.raise_if_any()


def check_request_waiver(request: pb.RequestWaiverRequest) -> None:
    """Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    check_name(violations, request.model_name, "model_name")
    check_name(violations, request.alias, "alias")
    if request.WhichOneof("change") == "model_id":
        check_id(violations, request.model_id, "model_id")
    _check_reason(violations, request.reason)
    violations.raise_if_any()
    # No field is required by itself.
    violations.check(request.WhichOneof("change") is not None, "model_id", "give a model_id or a gate_policy_id")
    violations.raise_if_any()


def check_unpin(request: pb.UnpinModelRequest) -> None:
    """Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    check_id(violations, request.id, "id")
    _check_reason(violations, request.reason)
    violations.raise_if_any()


def _check_reason(violations: Violations, reason: str) -> None:
    check_text(violations, reason, "reason", MAX_REASON)
    violations.check(bool(reason.strip()), "reason", "must say why")


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
    rules = _rules(violations, request)
    if request.baseline:
        check_name(violations, request.baseline, "baseline")
    check_text(violations, request.description, "description", 10_000)
    violations.raise_if_any()
    return PolicySpec(request.name, rules, request.baseline, request.description)


def _rules(violations: Violations, request: pb.CreateGatePolicyRequest) -> GatePolicy:
    """What the policy asks; the result means nothing when a violation was found."""
    given = {
        name: getattr(request, name)
        for name in ("margin", "alpha", "min_coverage", "min_effect")
        if request.HasField(name)
    }
    if request.metric:
        given["metric"] = request.metric
        violations.check(METRIC_KEY.fullmatch(request.metric) is not None, "metric", "is not a metric name")
    violations.check(request.direction in DIRECTIONS, "direction", "must be HIGHER_IS_BETTER or LOWER_IS_BETTER")
    violations.check(len(request.slices) <= MAX_SLICES, "slices", f"at most {MAX_SLICES}")
    slices = tuple(
        _slice_rule(violations.under(f"slices[{index}]"), each)
        for index, each in enumerate(request.slices[:MAX_SLICES])
    )
    try:
        return GatePolicy(**given, higher_is_better=DIRECTIONS.get(request.direction, True), slices=slices)
    except InvalidInput as error:
        violations.found.extend(error.violations)
        return GatePolicy()


def _slice_rule(violations: Violations, given: pb.SliceRule) -> SliceRule:
    violations.check(given.tier in TIERS, "tier", "must be CRITICAL or ADVISORY")
    known = _LABELS.get(given.dimension)
    if given.value and known is not None:
        violations.check(given.value in known, "value", f"must be one of {', '.join(known)}")
    check_text(violations, given.value, "value", 1000)
    return SliceRule(
        dimension=given.dimension,
        value=given.value,
        tier=TIERS.get(given.tier, SliceTier.ADVISORY),
        min_effect=given.min_effect if given.HasField("min_effect") else None,
    )


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
