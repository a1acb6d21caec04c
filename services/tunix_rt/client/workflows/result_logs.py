"""An evaluation's results in the log formats of other tools."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tunix_rt.client.clients import TunixClient
from tunix_rt.client.workflows.evidence import evalset_items, succeeded
from tunix_rt.contract.enums import ItemOutcome
from tunix_rt.quality.result_logs import Origin, Result, log_lines


def export_results(client: TunixClient, evaluation_id: str, log_format: str) -> Iterator[str]:
    """The lines of a log (``lm-eval`` or ``inspect``) of an evaluation that has SUCCEEDED, each with its newline.

    Raises `FailedPrecondition` for one that has no score.
    """
    evaluation = succeeded(client, evaluation_id)
    evalset = evalset_items(client, client.evalsets.get(evaluation.evalset_id))
    by_id = {item.id: item for item in evalset.items}
    results = [
        Result(
            item=by_id[found.item_id],
            sample_index=found.sample_index,
            prediction=None if found.outcome is ItemOutcome.ERRORED else found.prediction,
            outcome=found.outcome,
            metrics=found.metrics,
            extracted_answer=found.extracted_answer,
            message=found.message,
            finish_reason=found.finish_reason or "",
        )
        for found in client.evaluations.items(evaluation_id, page_size=1000)
    ]
    origin = Origin(
        id=evaluation.id,
        task=evaluation.evalset_key or evaluation.evalset_id,
        model=evaluation.model_id,
        created=_written(evaluation.create_time),
        started=_written(evaluation.start_time),
        completed=_written(evaluation.end_time),
        scorer_version=evaluation.identity.scorer_version,
        evalset_digest=evaluation.identity.evalset_digest,
        settings=evaluation.generation.to_dict(),
    )
    return log_lines(results, origin, log_format)


def _written(time: datetime | None) -> str:
    return "" if time is None else time.isoformat()
