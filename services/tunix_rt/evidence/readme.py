"""README.md of evidence, for the person who opens it. Made from the other files, so it cannot say something else."""

from __future__ import annotations

from collections.abc import Collection

from tunix_rt.evidence import documents
from tunix_rt.evidence.documents import Document

_FILES = {
    documents.RUN_MANIFEST: "what was run: model, dataset, evalset, config (the run's whole spec), code",
    documents.EVAL_SUMMARY: "the score: scorecard with intervals and slices, and the four digests that it belongs to",
    documents.EVALUATION: "the outcome in short: metrics, who judged, verdict",
    documents.PREDICTIONS: "every sample of every item: the model's text, what was read from it, its metrics",
    documents.EVALSET: "the questions with their expected answers; its sha256 is the evalset's version",
    documents.EVALSET_MANIFEST: "the evalset's key, digest and composition",
    documents.DATASET_MANIFEST: "the training data's digest, counts, filters, provenance and contamination",
    documents.TRAINING_LOG: "a row per logged step with its metrics, then the log lines",
    documents.ENVIRONMENT: "every attempt at the run with the versions that it ran on",
    documents.BEST_PARAMS: "what the sweep found, whether it is a tie, and the trial that this run carried out",
    documents.GATE_DECISIONS: "gate decisions on this evaluation, with policies and the scores they were held against",
    documents.SUMS: "the sha256 of every file but itself",
}

_CHECKING = """\
## How to check it

    tunix-rt evidence verify FILE                    # needs no server
    tunix-rt evidence verify FILE --digest sha256:…  # and that it is the one whose digest was written down
    unzip FILE -d evidence && cd evidence && sha256sum -c SHA256SUMS

`verify` refuses any byte that was changed, in this archive or in a file of it. Then it reads every file strictly, holds
the files against each other, scores every prediction again with the scorer of its own release, compares each metric
and the scorecard byte for byte, and decides every gate decision again.

## What the check cannot see

There is no signature in here. Whoever changes a file and writes SHA256SUMS anew is caught where files contradict each
other or the scoring: an answer, a metric, a score, an expected answer, a verdict, the config, a gate decision. Not
where nothing else depends on it: a prediction rewritten so that all its metrics stay the same, token counts, times,
names of workers, values in the training log, provenance, what a sweep's other trials came to, the scores of a gate's
baseline (that evaluation's own evidence has its predictions), an item that is said to have failed before anything was
generated; nor a whole set of files that was made up consistently. Against these, note the digest that
`tunix-rt evidence build` prints (the sha256 of SHA256SUMS) where the other side cannot change it, and give it to
`verify --digest`; or build the evidence again from the registry: the same state gives the same digest.
"""


def readme(manifest: Document, summary: Document, names: Collection[str]) -> bytes:
    """README.md of evidence that holds the files ``names`` besides README.md and SHA256SUMS."""
    lines = [
        f"# Evidence of {manifest['run_id'] or summary['evaluation_id']}",
        "",
        *_facts(manifest, summary),
        "",
        "## What is in here",
        "",
        *(f"- `{name}`: {meaning}" for name, meaning in _FILES.items() if name in names or name == documents.SUMS),
        "",
        _CHECKING,
    ]
    return "\n".join(lines).encode()


def _facts(manifest: Document, summary: Document) -> list[str]:
    card, identity = summary["scorecard"], summary["identity"]
    dataset, evalset = manifest["dataset"], manifest["evalset"]
    facts = {
        "Evaluation": f"{summary['evaluation_id']}, ended {summary['evaluated_at']}",
        "Score": f"{_score(card)}, verdict {card['verdict']} at threshold {card['threshold']!r}",
        "Items": f"{card['n_items']}, {card['n_scored']} scored, {card['n_skipped']} skipped, "
        f"{card['n_errored']} errored",
        "Model": f"{manifest['model_id']}, {manifest['model_digest']}",
        "Evalset": f"{evalset['key']}, {evalset['digest']}",
        "Dataset": "" if dataset is None else f"{dataset['key']}, {dataset['digest']}",
        "Scorer": identity["scorer_version"],
        "Repeat": f"`{manifest['command']}`",
        "": "where spec.json holds `config` of run_manifest.json" if manifest["config"] is not None else "",
    }
    return [f"- {name}: {fact}" if name else f"  ({fact})" for name, fact in facts.items() if fact]


def _score(card: Document) -> str:
    if "primary_score" not in card:
        return "none: nothing was scored"
    score = f"{card['primary_score']:.4f}"
    if "ci_low" not in card:
        return score
    return f"{score} [{card['ci_low']:.4f}, {card['ci_high']:.4f}] (95 %, {card['ci_method']})"
