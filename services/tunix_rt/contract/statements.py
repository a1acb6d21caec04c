"""What the registry signs of a score and of a gate decision, from their documents; evidence holds the same documents.

A statement names its kind, so that no signature is good for another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tunix_rt.contract.digests import DIGEST_PREFIX, canonical_json

_SAMPLE: Final = ("item_id", "sample_index", "outcome", "prediction", "extracted_answer", "metrics")
# The digest of a decision covers its statistics and slices.
_DECISION: Final = (
    "id",
    "verdict",
    "policy_id",
    "baseline_evaluation_id",
    "candidate_evaluation_id",
    "baseline_model_digest",
    "candidate_model_digest",
    "metric",
    "items_needed",
    "explanation",
    "create_time",
    "actor",
    "digest",
    "verified",
)


def gate_decision_statement(decision: Mapping[str, Any]) -> bytes:
    """The signed bytes of a gate decision."""
    return _statement("tunix_rt.gate_decision.v1", {name: decision[name] for name in _DECISION})


def evaluation_statement(
    *,
    evaluation_id: str,
    run_id: str,
    run_version: str,
    model_id: str,
    identity: Mapping[str, str],
    evaluated_at: str,
    samples_per_item: int,
    threshold: float,
    primary_score: float | None,
    verified: bool,
    predictions_digest: str,
) -> bytes:
    """The signed bytes of a score. The scorecard follows from the predictions, which have ``predictions_digest``.

    ``run_version`` is the digest of the run's spec; it and ``run_id`` are "" for a model that no run made.
    """
    return _statement("tunix_rt.evaluation.v1", locals())


def predictions_digest(samples: Iterable[Mapping[str, Any]]) -> str:
    """sha256 of what was predicted and measured, ``samples`` being in the order of the evalset."""
    found = hashlib.sha256()
    for sample in samples:
        found.update(canonical_json({name: sample[name] for name in _SAMPLE}).encode() + b"\n")
    return DIGEST_PREFIX + found.hexdigest()


def _statement(kind: str, content: Mapping[str, Any]) -> bytes:
    return canonical_json({"statement": kind, **content}).encode()
