"""Protobuf to domain and back, for evaluations, items, results and scorecards."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from google.protobuf import json_format

from tunix_rt.evaluator.work import Evaluation, Result
from tunix_rt.quality.items import EvalItem, parse_evalset
from tunix_rt.quality.scorecard import Scorecard
from tunix_rt.v1 import common_pb2, evalsets_pb2, evaluations_pb2, jobs_pb2

_OPTIONAL_TEXT = ("category", "abs_tol", "rel_tol", "unit", "cluster_id")


def evaluation_of(payload: jobs_pb2.EvaluationPayload) -> Evaluation:
    """The claimed evaluation."""
    generation = payload.evaluation.generation
    return Evaluation(
        items=items_of(sorted(payload.items, key=lambda item: item.index)),
        recorded=frozenset((pair.item_id, pair.sample_index) for pair in payload.recorded),
        samples_per_item=max(1, payload.evaluation.samples_per_item),
        model_reference=payload.model.uri or payload.model_reference,
        model_digest=payload.model.digest,
        seed=generation.seed,
        generation=generation,
    )


def items_of(messages: Iterable[evalsets_pb2.EvalSetItem]) -> list[EvalItem]:
    """The items, checked like a file's lines, in the order given; raises `InvalidInput` naming ``line N.field``."""
    lines = [json.dumps(_document(message), ensure_ascii=False) for message in messages]
    return list(parse_evalset("\n".join(lines)).items)


def _document(message: evalsets_pb2.EvalSetItem) -> dict[str, Any]:
    """The item as a line of an evalset file; what is not set is left out."""
    document: dict[str, Any] = {
        "id": message.id,
        "prompt": message.prompt,
        "expected_answer": message.expected_answer,
    }
    document |= {name: getattr(message, name) for name in _OPTIONAL_TEXT if getattr(message, name)}
    if message.section:
        document["section"] = _short(evalsets_pb2.Section.Name(message.section), "SECTION_")
    if message.difficulty:
        document["difficulty"] = _short(evalsets_pb2.Difficulty.Name(message.difficulty), "DIFFICULTY_")
    if message.answer_type:
        document["answer_type"] = _short(evalsets_pb2.AnswerType.Name(message.answer_type), "ANSWER_TYPE_")
    if message.aliases:
        document["aliases"] = list(message.aliases)
    if message.meta.fields:
        document["meta"] = json_format.MessageToDict(message.meta)
    return document


def result_message(result: Result) -> evaluations_pb2.ItemResult:
    """A result as it is recorded."""
    return evaluations_pb2.ItemResult(
        item_id=result.item_id,
        sample_index=result.sample_index,
        outcome=evaluations_pb2.ItemOutcome.Value(f"ITEM_OUTCOME_{result.outcome}"),
        prediction=result.prediction,
        extracted_answer=result.extracted_answer,
        metrics=dict(result.metrics),
        message=result.message,
        finish_reason=common_pb2.FinishReason.Value(f"FINISH_REASON_{result.finish_reason.upper() or 'UNSPECIFIED'}"),
        prompt_tokens=result.prompt_tokens,
        completion_tokens=result.completion_tokens,
    )


def scorecard_message(card: Scorecard) -> evaluations_pb2.Scorecard:
    """A scorecard as clients see it; what is unknown (None) is absent."""
    return evaluations_pb2.Scorecard(
        n_items=card.n_items,
        statistics_version=card.statistics_version,
        n_scored=card.n_scored,
        n_skipped=card.n_skipped,
        n_errored=card.n_errored,
        coverage=card.coverage,
        primary_score=card.primary_score,
        stddev=card.stddev,
        ci_low=card.ci_low,
        ci_high=card.ci_high,
        ci_method=card.ci_method,
        worst_case=card.worst_case,
        best_case=card.best_case,
        slices=[
            evaluations_pb2.SliceScore(
                dimension=part.dimension,
                value=part.value,
                n_items=part.n_items,
                n_scored=part.n_scored,
                primary_score=part.primary_score,
                ci_low=part.ci_low,
                ci_high=part.ci_high,
            )
            for part in card.slices
        ],
        metric_means=dict(card.metric_means),
        verdict=evaluations_pb2.Verdict.Value(f"VERDICT_{card.verdict}"),
        threshold=card.threshold,
        metric_estimates=[evaluations_pb2.MetricEstimate(**asdict(one)) for one in card.metric_estimates],
        repeats=[evaluations_pb2.RepeatEstimate(**asdict(one)) for one in card.repeats],
    )


def _short(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()
