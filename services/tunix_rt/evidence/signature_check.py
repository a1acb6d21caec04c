"""Who has signed evidence: the score, with every prediction, and each gate decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunix_rt.contract.signatures import is_signed_by, key_id, read_public_key
from tunix_rt.contract.statements import evaluation_statement, gate_decision_statement, predictions_digest
from tunix_rt.errors import InvalidInput
from tunix_rt.evidence.documents import EVAL_SUMMARY, GATE_DECISIONS, Document
from tunix_rt.evidence.problems import Problems


def check_signatures(
    summary: Document,
    manifest: Document,
    samples: Sequence[Document],
    decisions: Sequence[Document],
    trust: str,
    problems: Problems,
) -> str:
    """The public key that signed all that is signed, "" if nothing is.

    With ``trust``, a public key, everything must be signed by it. Raises `InvalidInput` for what is no key.
    """
    trusted = read_public_key(trust) if trust else None
    keys = _keys(summary, problems)
    signed = [(EVAL_SUMMARY, "", summary.get("signature"), _score(summary, manifest, samples))]
    signed += [
        (
            GATE_DECISIONS,
            f"decisions[{index}] ",
            each.get("signature"),
            gate_decision_statement({"verified": False} | each),
        )
        for index, each in enumerate(decisions)
    ]
    signers: set[bytes] = set()
    for file, path, signature, statement in signed:
        if signature is None:
            problems.check(trusted is None, file, f"{path}is not signed")
            continue
        key = keys.get(signature["key_id"])
        if not problems.check(key is not None, file, f"{path}is signed by {signature['key_id']}, which is not here"):
            continue
        assert key is not None
        right = is_signed_by(key, signature["value"], statement)
        problems.check(right, file, f"{path}is not what {signature['key_id']} has signed")
        other = f"{path}is signed by {signature['key_id']}, not by the trusted key"
        problems.check(trusted is None or key == trusted, file, other)
        signers.add(key)
    return summary["signing_keys"][key_id(signers.pop())] if len(signers) == 1 and not problems else ""


def _keys(summary: Document, problems: Problems) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, text in summary.get("signing_keys", {}).items():
        try:
            raw = read_public_key(text)
        except InvalidInput as error:
            problems.add(EVAL_SUMMARY, f"signing_keys.{name}: {error}")
            continue
        if problems.check(key_id(raw) == name, EVAL_SUMMARY, f"signing_keys.{name} is the key {key_id(raw)}"):
            found[name] = raw
    return found


def _score(summary: Mapping[str, Any], manifest: Mapping[str, Any], samples: Sequence[Document]) -> bytes:
    return evaluation_statement(
        evaluation_id=summary["evaluation_id"],
        run_id=summary["run_id"],
        run_version=manifest["run_version"],
        model_id=summary["model_id"],
        identity=summary["identity"],
        evaluated_at=summary["evaluated_at"],
        samples_per_item=summary["samples_per_item"],
        threshold=summary["scorecard"]["threshold"],
        primary_score=summary["primary_score"],
        verified=summary.get("verified", False),
        predictions_digest=predictions_digest(samples),
    )
