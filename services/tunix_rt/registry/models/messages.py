"""Rows of models, aliases, promotions, baselines, gate policies and gate decisions as protobuf messages."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format

from tunix_rt.quality.gate_policy import SliceTier
from tunix_rt.registry.gates.tables import GateDecisionRow, GatePolicyRow
from tunix_rt.registry.kernel.messages import artifact_message, timestamp
from tunix_rt.registry.kernel.rows import etag
from tunix_rt.registry.kernel.signing import signature_message
from tunix_rt.registry.models.tables import AliasRow, BaselineRow, ModelVersionRow, PromotionRow, WaiverRow
from tunix_rt.v1 import evaluations_pb2
from tunix_rt.v1 import models_pb2 as pb

FORMATS = {
    "hugging_face": pb.MODEL_FORMAT_HUGGING_FACE,
    "peft_adapter": pb.MODEL_FORMAT_PEFT_ADAPTER,
    "reference": pb.MODEL_FORMAT_REFERENCE,
}
GATE_VERDICTS = {
    "PASS": pb.GATE_VERDICT_PASS,
    "FAIL": pb.GATE_VERDICT_FAIL,
    "INCONCLUSIVE": pb.GATE_VERDICT_INCONCLUSIVE,
    "INVALID": pb.GATE_VERDICT_INVALID,
}
TIERS = {pb.SLICE_TIER_CRITICAL: SliceTier.CRITICAL, pb.SLICE_TIER_ADVISORY: SliceTier.ADVISORY}
TIER_VALUES = {tier.value: value for value, tier in TIERS.items()}
# Whether higher is better; the unset direction is that.
DIRECTIONS = {
    pb.METRIC_DIRECTION_UNSPECIFIED: True,
    pb.METRIC_DIRECTION_HIGHER_IS_BETTER: True,
    pb.METRIC_DIRECTION_LOWER_IS_BETTER: False,
}


def model_message(row: ModelVersionRow) -> pb.ModelVersion:
    """The model version as clients see it; a reference whose digest is not known yet has an artifact without one."""
    return pb.ModelVersion(
        id=row.id,
        name=row.name,
        version=row.version,
        format=FORMATS[row.format],
        artifact=artifact_message(row.uri, row.digest, row.size_bytes, row.files),
        reference=row.reference,
        lineage=json_format.ParseDict(row.lineage, pb.Lineage()),
        create_time=timestamp(row.create_time),
        tags=row.tags,
        etag=etag(row.revision),
        unpinnings=map(_unpinning, row.unpinnings),
        project=row.project,
        archive_time=timestamp(row.archive_time),
    )


def _unpinning(given: dict[str, Any]) -> pb.Unpinning:
    message: pb.Unpinning = json_format.ParseDict(given, pb.Unpinning())
    return message


def alias_message(row: AliasRow) -> pb.Alias:
    """The alias and its present holder."""
    return pb.Alias(
        model_name=row.model_name,
        alias=row.alias,
        model_id=row.model_id,
        gate_policy_id=row.gate_policy_id or "",
        update_time=timestamp(row.update_time),
        etag=etag(row.revision),
        project=row.project,
    )


def former_alias_message(row: AliasRow, holder: PromotionRow) -> pb.Alias:
    """The alias as it is but for its holder, who came by the move ``holder``."""
    message = alias_message(row)
    message.model_id = holder.to_model_id
    message.update_time.FromDatetime(holder.create_time)
    return message


def promotion_message(row: PromotionRow) -> pb.Promotion:
    """One move of an alias, or one change of its guard."""
    return pb.Promotion(
        id=row.id,
        model_name=row.model_name,
        alias=row.alias,
        from_model_id=row.from_model_id,
        to_model_id=row.to_model_id,
        gate_decision_id=row.gate_decision_id,
        waiver_reason=row.waiver_reason,
        actor=row.actor,
        create_time=timestamp(row.create_time),
        from_gate_policy_id=row.from_gate_policy_id,
        to_gate_policy_id=row.to_gate_policy_id,
        reason=row.reason,
        waiver_id=row.waiver_id,
        waiver_requested_by=row.waiver_requested_by,
        note=row.note,
    )


def waiver_message(row: WaiverRow) -> pb.Waiver:
    """A request for an exception."""
    message = pb.Waiver(
        id=row.id,
        model_name=row.model_name,
        alias=row.alias,
        reason=row.reason,
        requested_by=row.requested_by,
        create_time=timestamp(row.create_time),
        alias_etag=etag(row.alias_revision),
    )
    if row.model_id is not None:
        message.model_id = row.model_id
    else:
        message.gate_policy_id = row.gate_policy_id or ""
    return message


def baseline_message(row: BaselineRow) -> pb.Baseline:
    """One revision of a baseline."""
    return pb.Baseline(
        id=row.id,
        name=row.name,
        evaluation_id=row.evaluation_id,
        run_id=row.run_id,
        model_id=row.model_id,
        identity=evaluations_pb2.ScoreIdentity(**row.identity),
        locked_by=row.locked_by,
        note=row.note,
        create_time=timestamp(row.create_time),
        revision=row.revision,
        etag=etag(row.revision),
        project=row.project,
    )


def policy_message(row: GatePolicyRow) -> pb.GatePolicy:
    """One version of a gate policy."""
    return pb.GatePolicy(
        id=row.id,
        name=row.name,
        version=row.version,
        margin=row.margin,
        alpha=row.alpha,
        min_coverage=row.min_coverage,
        min_effect=row.min_effect,
        baseline=row.baseline,
        create_time=timestamp(row.create_time),
        description=row.description,
        metric=row.metric,
        direction=pb.METRIC_DIRECTION_HIGHER_IS_BETTER if row.higher_is_better else pb.METRIC_DIRECTION_LOWER_IS_BETTER,
        slices=[pb.SliceRule(**rule | {"tier": TIER_VALUES[rule["tier"]]}) for rule in row.slices],
        project=row.project,
        etag=etag(row.version),
    )


def statistics_message(statistics: dict[str, Any]) -> evaluations_pb2.PairedStatistics:
    """Paired statistics from their stored JSON, whose keys are the message's fields."""
    return json_format.ParseDict(statistics, evaluations_pb2.PairedStatistics(), ignore_unknown_fields=True)


def decision_message(row: GateDecisionRow) -> pb.GateDecision:
    """One gate decision."""
    return pb.GateDecision(
        id=row.id,
        verdict=GATE_VERDICTS[row.verdict],
        policy_id=row.policy_id,
        baseline_evaluation_id=row.baseline_evaluation_id or "",
        candidate_evaluation_id=row.candidate_evaluation_id,
        baseline_model_digest=row.baseline_model_digest,
        candidate_model_digest=row.candidate_model_digest,
        statistics=None if row.statistics is None else statistics_message(row.statistics),
        lower_bound=row.lower_bound,
        items_needed=row.items_needed,
        explanation=row.explanation,
        create_time=timestamp(row.create_time),
        actor=row.actor,
        digest=row.digest,
        slices=map(_slice_decision, row.slices),
        metric=row.metric,
        verified=row.verified,
        signature=signature_message(row.signing_key_id, row.signature),
        project=row.project,
        scorer_version=row.scorer_version,
    )


def _slice_decision(found: dict[str, Any]) -> pb.SliceDecision:
    """A slice's outcome from its stored JSON, whose keys are the message's fields."""
    names = {"tier": TIER_VALUES[found["tier"]], "verdict": GATE_VERDICTS[found["verdict"]]}
    return pb.SliceDecision(**found | names)
