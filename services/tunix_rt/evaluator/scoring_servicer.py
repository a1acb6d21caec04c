"""ScoringService: scores predictions and checks evalsets sent by clients. Stateless; needs no model."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import grpc

from tunix_rt.contract.scores import DEFAULT_THRESHOLD, THRESHOLD
from tunix_rt.errors import FieldViolation, InvalidInput, Violations
from tunix_rt.evaluator.messages import items_of, result_message, scorecard_message
from tunix_rt.evaluator.work import Result
from tunix_rt.quality.items import EvalItem, parse_evalset
from tunix_rt.quality.scorecard import Scored, scorecard
from tunix_rt.quality.scorers import BUILT_IN_SCORERS, ScorerSet
from tunix_rt.quality.scoring import score_item, scored_row
from tunix_rt.v1 import common_pb2, evalsets_pb2, scoring_pb2, scoring_pb2_grpc

SERVICE = scoring_pb2.DESCRIPTOR.services_by_name["ScoringService"].full_name
_MAX_ITEMS = 10_000
_LINE = re.compile(r"^line (\d+)\.?(.*)$")
_Context = grpc.aio.ServicerContext[Any, Any]


class ScoringServicer(scoring_pb2_grpc.ScoringServiceServicer):
    """See scoring.proto. Scores with ``scorers``."""

    def __init__(self, scorers: ScorerSet = BUILT_IN_SCORERS) -> None:
        self._scorers = scorers

    async def ScoreItems(
        self, request: scoring_pb2.ScoreItemsRequest, context: _Context
    ) -> scoring_pb2.ScoreItemsResponse:
        threshold = request.threshold if request.HasField("threshold") else DEFAULT_THRESHOLD
        items = _checked_items(request, threshold)
        predictions = {given.item_id: given for given in request.predictions}
        results, rows = await asyncio.to_thread(_score, items, predictions, self._scorers)
        card = await asyncio.to_thread(scorecard, rows, threshold, counts=self._scorers.counts)
        return scoring_pb2.ScoreItemsResponse(
            results=[result_message(result) for result in results],
            scorecard=scorecard_message(card),
            scorer_version=self._scorers.version,
        )

    async def ValidateEvalSet(
        self, request: scoring_pb2.ValidateEvalSetRequest, context: _Context
    ) -> scoring_pb2.ValidateEvalSetResponse:
        try:
            text = request.jsonl.decode()
        except UnicodeDecodeError as error:
            found = scoring_pb2.EvalSetViolation(line=0, description=f"not UTF-8: {error}")
            return scoring_pb2.ValidateEvalSetResponse(valid=False, violations=[found])
        try:
            evalset = await asyncio.to_thread(parse_evalset, text)
        except InvalidInput as error:
            violations = [_located(violation) for violation in error.violations]
            return scoring_pb2.ValidateEvalSetResponse(valid=False, violations=violations)
        counts = evalset.statistics
        return scoring_pb2.ValidateEvalSetResponse(
            valid=True,
            statistics=evalsets_pb2.EvalSet(
                digest=evalset.digest,
                item_count=len(evalset.items),
                sections=counts.sections,
                categories=counts.categories,
                difficulties=counts.difficulties,
                answer_types=counts.answer_types,
            ),
        )


def _checked_items(request: scoring_pb2.ScoreItemsRequest, threshold: float) -> list[EvalItem]:
    """The request's items; raises `InvalidInput` naming every offending field of the request."""
    violations = Violations()
    THRESHOLD.check(threshold, "threshold", violations)
    violations.check(0 < len(request.items) <= _MAX_ITEMS, "items", f"1 to {_MAX_ITEMS} items are required")
    items: list[EvalItem] = []
    if request.items:
        try:
            items = items_of(request.items)
        except InvalidInput as error:
            for violation in error.violations:
                violations.add(_request_path(violation.field), violation.description)
    known = {item.id for item in request.items}
    seen: set[str] = set()
    for index, given in enumerate(request.predictions):
        path = f"predictions[{index}].item_id"
        violations.check(given.item_id in known, path, f"{given.item_id!r} is not among the items")
        violations.check(given.item_id not in seen, path, f"{given.item_id!r} has a prediction already")
        seen.add(given.item_id)
        reason = given.finish_reason
        what = f"unknown value {reason}; expected one of {', '.join(common_pb2.FinishReason.keys())}"
        violations.check(reason in common_pb2.FinishReason.values(), f"predictions[{index}].finish_reason", what)
    violations.raise_if_any()
    return items


def _score(
    items: list[EvalItem], predictions: dict[str, scoring_pb2.Prediction], scorers: ScorerSet
) -> tuple[list[Result], list[Scored]]:
    results: list[Result] = []
    rows: list[Scored] = []
    for item in items:
        given = predictions.get(item.id)
        cut = given is not None and given.finish_reason == common_pb2.FINISH_REASON_LENGTH
        score = score_item(
            item, given.prediction if given else None, finish_reason="length" if cut else "", scorers=scorers
        )
        results.append(
            Result(
                item_id=item.id,
                sample_index=0,
                outcome=score.outcome.value,
                prediction=given.prediction if given else "",
                extracted_answer=score.extracted_answer or "",
                metrics=score.metrics,
                message=score.message,
            )
        )
        rows.append(scored_row(item, score))
    return results, rows


def _request_path(field: str) -> str:
    """``line 3.expected_answer`` as ``items[2].expected_answer``."""
    found = _LINE.match(field)
    if not found:
        return field
    return f"items[{int(found[1]) - 1}]" + (f".{found[2]}" if found[2] else "")


def _located(violation: FieldViolation) -> scoring_pb2.EvalSetViolation:
    found = _LINE.match(violation.field)
    line, field = (int(found[1]), found[2]) if found else (0, violation.field)
    return scoring_pb2.EvalSetViolation(line=line, field=field, description=violation.description)
