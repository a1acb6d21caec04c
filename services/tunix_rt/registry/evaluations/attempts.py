"""Evaluations in the worker protocol: what an evaluator is given, and what it completes with."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sqlalchemy.orm import Session

from tunix_rt.artifacts import ArtifactRoot
from tunix_rt.contract.digests import check_digest
from tunix_rt.errors import Violations
from tunix_rt.registry.evalsets.messages import item_message
from tunix_rt.registry.evalsets.rules import items_of
from tunix_rt.registry.evaluations import items
from tunix_rt.registry.evaluations.messages import evaluation_message
from tunix_rt.registry.evaluations.rules import Result, succeed
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.jobs.kind import JobKind
from tunix_rt.registry.kernel.messages import artifact_message
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.v1 import jobs_pb2 as pb


def _payload(session: Session, row: EvaluationRow) -> pb.EvaluationPayload:
    model = session.get_one(ModelVersionRow, row.model_id)
    return pb.EvaluationPayload(
        evaluation=evaluation_message(row),
        model=artifact_message(model.uri, model.digest, model.size_bytes, model.files),
        model_reference=model.reference,
        items=map(item_message, items_of(session, row.evalset_id)),
        recorded=[
            pb.RecordedItem(item_id=item_id, sample_index=sample)
            for item_id, sample in items.recorded_pairs(session, row.id)
        ],
    )


def _read_result(result: pb.EvaluationResult, _: ArtifactRoot, violations: Violations) -> Result:
    check_digest(result.model_digest, "model_digest", violations)
    violations.check(bool(result.scorer_version), "scorer_version", "is required")
    return Result(result.model_digest, result.scorer_version)


def _reference_of(session: Session, row: EvaluationRow) -> str:
    model = session.get_one(ModelVersionRow, row.model_id)
    return model.reference if model.format == "reference" else ""


def _confirmed(result: Result, digest: str) -> Result:
    return replace(result, loaded_digest=digest)


EVALUATION: Final = JobKind(
    name="evaluation",
    number=pb.JOB_KIND_EVALUATION,
    table=EvaluationRow,
    payload=_payload,
    read_result=_read_result,
    succeed=succeed,
    reference_of=_reference_of,
    confirmed=_confirmed,
)
