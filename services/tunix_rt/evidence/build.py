"""From facts to the files of evidence. The same facts give the same bytes: no clock, no host, no order of arrival."""

from __future__ import annotations

import shlex

from tunix_rt.contract.digests import canonical_json
from tunix_rt.evidence import documents
from tunix_rt.evidence.archive import pack
from tunix_rt.evidence.best_params import best_params
from tunix_rt.evidence.documents import Document, json_file, jsonl_file
from tunix_rt.evidence.facts import Facts, TrainingFacts
from tunix_rt.evidence.readme import readme
from tunix_rt.evidence.training_log import training_log
from tunix_rt.quality.items import canonical_jsonl

SPEC_COMMAND = "tunix-rt runs create --spec spec.json"


def build(facts: Facts) -> bytes:
    """The zip."""
    return pack(files(facts))


def files(facts: Facts) -> dict[str, bytes]:
    """Every file by its name."""
    manifest, summary = run_manifest(facts), eval_summary(facts)
    contents = {
        documents.RUN_MANIFEST: json_file(manifest),
        documents.EVAL_SUMMARY: json_file(summary),
        documents.EVALUATION: json_file(evaluation(facts)),
        documents.PREDICTIONS: jsonl_file(facts.samples),
        documents.EVALSET_MANIFEST: json_file(_without(facts.evalset, "etag", "archive_time")),
        documents.EVALSET: canonical_jsonl(facts.items),
    }
    if facts.training is not None:
        contents |= _of_training(facts.training, facts.evaluation)
    if facts.gate.decisions:
        contents[documents.GATE_DECISIONS] = json_file(
            {
                "decisions": list(facts.gate.decisions),
                "policies": {id: _without(policy, "etag") for id, policy in facts.gate.policies.items()},
                "baselines": dict(facts.gate.baselines),
            }
        )
    contents[documents.README] = readme(manifest, summary, contents)
    return contents | {documents.SUMS: documents.sums_file(contents)}


def run_manifest(facts: Facts) -> Document:
    """What was run: ``run_version`` is the digest of ``config``, so equal versions are equal experiments."""
    training, model, evalset = facts.training, facts.model, facts.evalset
    lineage = model.get("lineage", {})
    document: Document = {
        "evidence_version": documents.EVIDENCE_VERSION,
        "run_id": "",
        "run_version": "",
        "config": None,
        "command": evaluation_command(facts.evaluation, model["reference"]),
        "dataset": None,
        "timestamp": facts.evaluation["end_time"],
        "tuning_job_id": None,
        "trial_id": None,
        "attempts": 0,
        "model_id": model["id"],
        "model_digest": facts.evaluation["identity"]["model_digest"],
        "model": {name: model[name] for name in ("name", "version", "format", "reference")} | {"lineage": lineage},
        "evalset": {name: evalset[name] for name in ("id", "key", "digest", "item_count")},
        "commit_sha": lineage.get("code_revision", ""),
        "code_version": lineage.get("details", {}).get("code_version", ""),
    }
    if training is not None:
        run, dataset = training.run, training.dataset
        document |= {
            "run_id": run["id"],
            "run_version": run["spec_digest"],
            "config": run["spec"],
            "command": SPEC_COMMAND,
            "dataset": {
                "id": dataset["id"],
                "key": dataset["key"],
                "digest": dataset["artifact"]["digest"],
                "trace_count": dataset["manifest"]["trace_count"],
            },
            "timestamp": run["end_time"],
            "tuning_job_id": run["sweep_id"] or None,
            "trial_id": run["trial_id"] or None,
            "attempts": run["attempts"],
        }
    return document


def evaluation_command(found: Document, reference: str) -> str:
    """The command that evaluates the same model in the same way, where ``reference`` can be loaded."""
    settings = "".join(
        f" --set {name}={canonical_json(value)}"
        for name, value in sorted(found["generation"].items())
        if not isinstance(value, str | list)
    )
    return (
        f"tunix-rt evaluations create --model {shlex.quote(reference)} --evalset {found['evalset_key']} "
        f"--threshold {found['threshold']!r} --samples {found['samples_per_item']}{settings}"
    )


def eval_summary(facts: Facts) -> Document:
    """The score with all that it is a score of."""
    found = facts.evaluation
    card = found["scorecard"]
    return {
        "evaluation_id": found["id"],
        "run_id": found["run_id"],
        "model_id": found["model_id"],
        "evaluated_at": found["end_time"],
        "identity": found["identity"],
        "generation": found["generation"],
        "samples_per_item": found["samples_per_item"],
        "primary_score": card.get("primary_score"),
        "metrics": card["metric_means"],
        "scorecard": card,
        # Only where the predictions were scored again.
        **({"scored_at": found["score_time"]} if "score_time" in found else {}),
        **_signed(facts),
    }


def _signed(facts: Facts) -> Document:
    """The registry's signature of the score; nothing of a score that a former release has computed."""
    if "signature" not in facts.evaluation:
        return {}
    return {
        "verified": facts.evaluation["verified"],
        "signature": facts.evaluation["signature"],
        "signing_keys": dict(facts.signing_keys),
    }


def evaluation(facts: Facts) -> Document:
    """The outcome in short, and who judged."""
    found = facts.evaluation
    return {
        "evaluation_id": found["id"],
        "run_id": found["run_id"],
        "metrics": found["scorecard"]["metric_means"],
        "judge": {"kind": "rules", "scorer_version": found["identity"]["scorer_version"]},
        "verdict": found["scorecard"]["verdict"],
        "threshold": found["threshold"],
        "gate_decision_ids": [decision["id"] for decision in facts.gate.decisions],
    }


def _of_training(training: TrainingFacts, found: Document) -> dict[str, bytes]:
    environment = {
        "attempts": list(training.attempts),
        "evaluation": {name: found[name] for name in ("attempts", "start_time", "end_time") if name in found},
    }
    contents = {
        documents.DATASET_MANIFEST: json_file(
            _without(training.dataset, "etag", "archive_time", "artifact") | _artifact(training)
        ),
        documents.TRAINING_LOG: jsonl_file(training_log(training.metrics, training.logs)),
        documents.ENVIRONMENT: json_file(environment),
    }
    if training.sweep is not None:
        contents[documents.BEST_PARAMS] = json_file(best_params(training.sweep, training.run["id"]))
    return contents


def _artifact(training: TrainingFacts) -> Document:
    return {"digest": training.dataset["artifact"]["digest"], "size_bytes": training.dataset["artifact"]["size_bytes"]}


def _without(document: Document, *names: str) -> Document:
    return {name: value for name, value in document.items() if name not in names}
