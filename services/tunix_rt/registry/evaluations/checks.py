"""Requests of EvaluationService, checked field by field and turned into what the domain takes."""

from __future__ import annotations

import math
from typing import Any, Final

from tunix_rt.contract.deadlines import QUEUE_DEADLINE
from tunix_rt.contract.digests import check_digest
from tunix_rt.contract.generation import check_generation, complete_generation, of_this_version
from tunix_rt.contract.identifiers import MAX_MESSAGE
from tunix_rt.contract.messages import generation_fields
from tunix_rt.contract.scores import DEFAULT_THRESHOLD, METRIC_KEY, SAMPLES_PER_ITEM, THRESHOLD
from tunix_rt.errors import Violations
from tunix_rt.quality.scorer_plugins import installed_scorers
from tunix_rt.registry.evaluations.comparison import BY_DIFFERENCE, BY_INDEX
from tunix_rt.registry.evaluations.messages import FINISH_REASON_NAMES, OUTCOME_NAMES
from tunix_rt.registry.evaluations.rules import EvaluationSpec
from tunix_rt.registry.evaluations.score_values import Order, read_order
from tunix_rt.registry.kernel.fields import check_id, check_request_id, check_tags, check_text
from tunix_rt.registry.kernel.leases import Lease
from tunix_rt.registry.kernel.messages import read_cancellation, read_lease
from tunix_rt.registry.kernel.states import Reason
from tunix_rt.registry.models.rules import check_reference, is_reference
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import evaluations_pb2 as pb

MAX_CANDIDATES: Final = 31
MAX_RESULTS: Final = 1000
MAX_PREDICTION: Final = 1_000_000
_TEXT_LIMITS: Final = {"prediction": MAX_PREDICTION, "extracted_answer": MAX_PREDICTION, "message": MAX_MESSAGE}


def evaluation_spec(request: pb.CreateEvaluationRequest) -> EvaluationSpec:
    """The evaluation that ``request`` asks for, defaults filled in. Raises `InvalidInput`."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    if is_reference(request.model) and not request.model.startswith("model://"):
        check_reference(violations, request.model, "model")
    else:
        check_id(violations, request.model, "model")
    check_id(violations, request.evalset, "evalset")
    generation = _completed(request.generation, violations.under("generation"))
    threshold = request.threshold if request.HasField("threshold") else DEFAULT_THRESHOLD
    THRESHOLD.check(threshold, "threshold", violations)
    samples = request.samples_per_item
    if samples:
        SAMPLES_PER_ITEM.check(samples, "samples_per_item", violations)
    QUEUE_DEADLINE.check(request.queue_deadline_seconds, "queue_deadline_seconds", violations)
    check_tags(violations, request.tags)
    violations.raise_if_any()
    return EvaluationSpec(
        model=request.model,
        evalset=request.evalset,
        generation=generation,
        threshold=threshold,
        samples_per_item=samples or 1,
        tags=dict(request.tags),
        queue_deadline_seconds=request.queue_deadline_seconds,
    )


def resolved_generation(given: common_pb2.GenerationConfig, violations: Violations) -> common_pb2.GenerationConfig:
    """``given`` with every unset field at its default; what no inferencer serves goes into ``violations``."""
    return common_pb2.GenerationConfig(**_completed(given, violations))


def _completed(given: common_pb2.GenerationConfig, violations: Violations) -> dict[str, Any]:
    config = complete_generation(of_this_version(generation_fields(given)))
    check_generation(config, violations)
    return config


def cancel_reason(request: pb.CancelEvaluationRequest) -> Reason:
    """The reason to cancel for, USER_CANCELLED unless another is given. Raises `InvalidInput`."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    check_id(violations, request.id, "id")
    reason = read_cancellation(request, violations)
    violations.raise_if_any()
    return reason


def check_rescore(request: pb.RescoreEvaluationRequest) -> None:
    """Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    check_id(violations, request.id, "id")
    violations.raise_if_any()


def check_item_results(request: pb.ListItemResultsRequest) -> None:
    """Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    check_id(violations, request.evaluation_id, "evaluation_id")
    check_text(violations, request.scorer_version, "scorer_version", 64)
    violations.raise_if_any()


def leaderboard_order(request: pb.GetLeaderboardRequest) -> Order:
    """What the board is to be ordered by. Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    check_id(violations, request.evalset, "evalset")
    if request.generation_digest:
        check_digest(request.generation_digest, "generation_digest", violations)
    check_text(violations, request.scorer_version, "scorer_version", 64)
    order = read_order(request.order_by, violations)
    violations.raise_if_any()
    return order


def check_compare(request: pb.CompareEvaluationsRequest) -> None:
    """Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    check_id(violations, request.baseline_evaluation_id, "baseline_evaluation_id")
    violations.check(
        request.order_by in ("", BY_DIFFERENCE, BY_INDEX), "order_by", f"must be {BY_DIFFERENCE!r} or {BY_INDEX!r}"
    )
    candidates = request.candidate_evaluation_ids
    violations.check(
        1 <= len(candidates) <= MAX_CANDIDATES, "candidate_evaluation_ids", f"must hold 1 to {MAX_CANDIDATES} ids"
    )
    for index, candidate in enumerate(candidates[:MAX_CANDIDATES]):
        path = f"candidate_evaluation_ids[{index}]"
        check_id(violations, candidate, path)
        violations.check(candidate != request.baseline_evaluation_id, path, "is the baseline")
        violations.check(candidate not in candidates[:index], path, f"{candidate!r} is named twice")
    violations.raise_if_any()


def recorded(request: pb.RecordItemsRequest) -> Lease:
    """The lease under which results are recorded. Raises `InvalidInput` naming each bad field of them, such as
    ``results[2].metrics.…``.

    Whether the items exist is asked later, when the evaluation is known.
    """
    violations = Violations()
    lease = read_lease(request.lease, violations)
    count = len(request.results)
    violations.check(1 <= count <= MAX_RESULTS, "results", f"must hold 1 to {MAX_RESULTS} results")
    for index, result in enumerate(request.results[:MAX_RESULTS]):
        _check_result(violations.under(f"results[{index}]"), result)
    violations.raise_if_any()
    return lease


def _check_result(violations: Violations, result: pb.ItemResult) -> None:
    violations.check(bool(result.item_id), "item_id", "is required")
    violations.check(result.sample_index >= 0, "sample_index", "must be at least 0")
    violations.check(result.outcome in OUTCOME_NAMES, "outcome", "must be SCORED, SKIPPED or ERRORED")
    for field, limit in _TEXT_LIMITS.items():
        violations.check(len(getattr(result, field)) <= limit, field, f"at most {limit} characters")
    known = result.finish_reason in FINISH_REASON_NAMES
    violations.check(known, "finish_reason", "must be FINISH_REASON_STOP or FINISH_REASON_LENGTH")
    violations.check(result.prompt_tokens >= 0, "prompt_tokens", "must be at least 0")
    violations.check(result.completion_tokens >= 0, "completion_tokens", "must be at least 0")
    metrics = dict(result.metrics)
    _check_metrics(violations, metrics)
    if result.outcome == pb.ITEM_OUTCOME_SCORED:
        violations.check("answer_correctness" in metrics, "metrics.answer_correctness", "is required for a SCORED item")


def _check_metrics(violations: Violations, metrics: dict[str, float]) -> None:
    for name, value in sorted(metrics.items()):
        path = f"metrics.{name}"
        violations.check(METRIC_KEY.fullmatch(name) is not None, path, "is not a metric name")
        if not violations.check(math.isfinite(value), path, f"must be finite, not {value}"):
            continue
        if name in installed_scorers().counts:
            violations.check(value >= 0, path, f"must be at least 0, not {value}")
        else:
            violations.check(0 <= value <= 1, path, f"must be in [0, 1], not {value}")
