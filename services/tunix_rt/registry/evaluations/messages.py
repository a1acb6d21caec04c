"""Evaluations, their items and scorecards: rows as protobuf messages, results of workers as rows, and what `quality`
computes as the JSON that rows hold, whose keys are the fields of evaluations.proto.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from tunix_rt.quality.compare import PairedComparison
from tunix_rt.quality.scorecard import Scorecard
from tunix_rt.quality.scorers import PRIMARY_METRIC
from tunix_rt.registry.evaluations.tables import EvaluationRow, ItemResultRow, PastItemScoreRow, PastScoreRow
from tunix_rt.registry.kernel.messages import progress_message, reason_value, state_value, timestamp
from tunix_rt.registry.kernel.rows import etag, utc_now
from tunix_rt.registry.kernel.signing import signature_message
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import evaluations_pb2 as pb

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

OUTCOMES = {
    "SCORED": pb.ITEM_OUTCOME_SCORED,
    "SKIPPED": pb.ITEM_OUTCOME_SKIPPED,
    "ERRORED": pb.ITEM_OUTCOME_ERRORED,
}
# As they are stored.
FINISH_REASONS = {
    "": common_pb2.FINISH_REASON_UNSPECIFIED,
    "stop": common_pb2.FINISH_REASON_STOP,
    "length": common_pb2.FINISH_REASON_LENGTH,
}
FINISH_REASON_NAMES = {value: name for name, value in FINISH_REASONS.items()}
OUTCOME_NAMES = {value: name for name, value in OUTCOMES.items()}
VERDICTS = {
    "pass": pb.VERDICT_PASS,
    "fail": pb.VERDICT_FAIL,
    "uncertain": pb.VERDICT_UNCERTAIN,
    "invalid": pb.VERDICT_INVALID,
}


def generation_message(config: Mapping[str, Any]) -> common_pb2.GenerationConfig:
    """A stored generation config, every field set but a system prompt that there is not."""
    fields = {name: value for name, value in config.items() if name != "system_prompt" or value}
    return common_pb2.GenerationConfig(**fields)


def identity_message(identity: Mapping[str, str]) -> pb.ScoreIdentity:
    """The four digests of a score."""
    return pb.ScoreIdentity(**identity)


def scorecard_message(card: Mapping[str, Any]) -> pb.Scorecard:
    """A stored scorecard; its keys are the message's fields, its verdict the name in lower case."""
    fields = {name: value for name, value in card.items() if name != "verdict" and value is not None}
    message = json_format.ParseDict(fields, pb.Scorecard(), ignore_unknown_fields=True)
    message.verdict = VERDICTS[card["verdict"]]
    return message


def evaluation_message(row: EvaluationRow) -> pb.Evaluation:
    """The evaluation as clients see it."""
    return pb.Evaluation(
        id=row.id,
        run_id=row.run_id or "",
        model_id=row.model_id,
        evalset_id=row.evalset_id,
        generation=generation_message(row.generation),
        state=state_value(row.state),
        reason=reason_value(row.reason),
        message=row.message,
        progress=progress_message(row),
        identity=identity_message(row.identity),
        scorecard=None if row.scorecard is None else scorecard_message(row.scorecard),
        create_time=timestamp(row.create_time),
        start_time=timestamp(row.start_time),
        end_time=timestamp(row.end_time),
        tags=row.tags,
        etag=etag(row.revision),
        attempts=row.attempts,
        threshold=row.threshold,
        samples_per_item=row.samples_per_item,
        evalset_key=row.evalset_key,
        created_by=row.created_by,
        verified=row.verified,
        signature=signature_message(row.signing_key_id, row.signature),
        project=row.project,
        queue_deadline_seconds=row.queue_deadline_seconds,
        archive_time=timestamp(row.archive_time),
        score_time=timestamp(row.score_time),
    )


def past_score_message(evaluation: EvaluationRow, row: PastScoreRow) -> pb.PastScore:
    """A former score of the evaluation."""
    return pb.PastScore(
        identity=identity_message(evaluation.identity | {"scorer_version": row.scorer_version}),
        scorecard=scorecard_message(row.scorecard),
        verified=row.verified,
        signature=signature_message(row.signing_key_id, row.signature),
        score_time=timestamp(row.score_time),
        replace_time=timestamp(row.replace_time),
        replaced_by=row.replaced_by,
    )


def item_result_message(row: ItemResultRow, score: PastItemScoreRow | None = None) -> pb.ItemResult:
    """What was recorded for one sample of one item; with ``score`` as a former scorer version scored it."""
    scored = row if score is None else score
    return pb.ItemResult(
        item_id=row.item_id,
        sample_index=row.sample_index,
        outcome=OUTCOMES[scored.outcome],
        prediction=row.prediction,
        extracted_answer=scored.extracted_answer,
        metrics=scored.metrics,
        message=scored.message,
        finish_reason=FINISH_REASONS[row.finish_reason],
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
    )


def item_result_row(message: pb.ItemResult, *, verified: bool) -> ItemResultRow:
    """What a worker has sent of one sample of one item; whose it is, and when, is for its recorder to say."""
    outcome = OUTCOME_NAMES[message.outcome]
    return ItemResultRow(
        evaluation_id="",
        item_id=message.item_id,
        sample_index=message.sample_index,
        outcome=outcome,
        # A model may emit NUL, which PostgreSQL cannot store.
        prediction=_without_nul(message.prediction),
        extracted_answer=_without_nul(message.extracted_answer),
        metrics=dict(message.metrics),
        answer_correctness=message.metrics.get(PRIMARY_METRIC) if outcome == "SCORED" else None,
        message=_without_nul(message.message),
        finish_reason=FINISH_REASON_NAMES[message.finish_reason],
        prompt_tokens=message.prompt_tokens,
        completion_tokens=message.completion_tokens,
        verified=verified,
        create_time=utc_now(),
    )


def _without_nul(text: str) -> str:
    return text.replace("\x00", "\ufffd")


def document_of(value: DataclassInstance) -> dict[str, Any]:
    """A dataclass of `quality` as plain JSON. Raises ValueError for a number that is not finite."""
    document: dict[str, Any] = json.loads(json.dumps(asdict(value), allow_nan=False))
    return document


def scorecard_document(card: Scorecard) -> dict[str, Any]:
    """The scorecard; its verdict is the name in lower case."""
    return document_of(card) | {"verdict": str(card.verdict).lower()}


def statistics_document(found: PairedComparison) -> dict[str, Any]:
    """The paired statistics alone, without slices and items."""
    return document_of(replace(found, slices=(), items=()))
