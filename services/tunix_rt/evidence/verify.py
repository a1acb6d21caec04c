"""Verifies that evidence is unchanged and that its score follows from it. Needs no server.

Three steps, each only if the one before found nothing. The archive: no byte that is not as `archive.pack` writes it,
and SHA256SUMS covers every file and holds. The files: those that there must be, canonical, within their published
schemas. The content: the files agree, the evalset has its digest, every prediction gets the stored score again, the
scorecard is equal byte for byte, every gate decision is decided again with the same digest.

Predictions of former scorer versions are not scored again: their rules are gone. Then scorecard and decisions are made
again of the stored scores, and ``not_scored_again`` says so.

The registry signs scores and gate decisions. Evidence without a signature cannot be distinguished from a consistent
forgery, nor can one by a key that nobody knows: ``trust`` names the key that must have signed. What is not signed
(training log, environment) is closed by ``digest``, if it was kept where it could not be changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunix_rt.errors import InvalidInput
from tunix_rt.evidence import consistency, former_scores
from tunix_rt.evidence import documents as names
from tunix_rt.evidence.archive import unpack
from tunix_rt.evidence.documents import Document
from tunix_rt.evidence.gate_check import check_decisions
from tunix_rt.evidence.problems import ARCHIVE, Problem, Problems
from tunix_rt.evidence.readme import readme
from tunix_rt.evidence.schema_check import violations
from tunix_rt.evidence.schemas import schema
from tunix_rt.evidence.scoring import misplaced, rescore, scorecard_differences, scorers_of
from tunix_rt.evidence.signature_check import check_signatures
from tunix_rt.evidence.tuning_consistency import check_best_params
from tunix_rt.quality.items import EvalSet, canonical_jsonl, parse_evalset
from tunix_rt.quality.methods import method_of
from tunix_rt.quality.scorers import BUILT_IN_SCORERS, ScorerSet

MAX_DIFFERENCES = 20


@dataclass(frozen=True)
class Verified:
    """What `verify` found. ``n_scored_again`` counts samples; ``digest`` is that of SHA256SUMS, "" if unreadable."""

    problems: tuple[Problem, ...]
    digest: str = ""
    files: tuple[str, ...] = ()
    evaluation_id: str = ""
    primary_score: float | None = None
    n_scored_again: int = 0
    n_not_generated: int = 0
    n_gate_decisions: int = 0
    # The public key that signed the score and every gate decision; "" for evidence that is not signed.
    signed_by: str = ""
    # Why the predictions were not scored again; "" where they were.
    not_scored_again: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.problems


def verify(data: bytes, *, digest: str = "", trust: str = "", scorers: ScorerSet = BUILT_IN_SCORERS) -> Verified:
    """Check the zip ``data``; with ``digest`` also that it is the evidence that was built under it, with ``trust`` (a
    public key) that this key has signed it.

    ``scorers`` are those that are installed here: scores of another set are refused, because they cannot be checked.
    """
    problems = Problems()
    contents = unpack(data, problems, names.ALWAYS | names.OF_A_RUN | names.SOMETIMES)
    if not problems:
        names.check_sums(contents, problems)
    if problems:
        return Verified(tuple(problems))
    found = names.content_digest(contents)
    problems.check(digest in ("", found), ARCHIVE, f"is other evidence: its digest is {found}, not {digest}")
    documents = _read(contents, problems)
    if problems:
        return Verified(tuple(problems), found, tuple(sorted(contents)))
    return _check_content(contents, documents, problems, found, trust, scorers)


def _read(contents: Mapping[str, bytes], problems: Problems) -> dict[str, Any]:
    """Every document by its file's name: an object, or a list of them for ``.jsonl``."""
    known = names.ALWAYS | names.OF_A_RUN | names.SOMETIMES
    for name in sorted(contents.keys() - known):
        problems.add(name, "is not a file of evidence")
    for name in sorted(names.ALWAYS - contents.keys()):
        problems.add(name, "is missing")
    documents: dict[str, Any] = {}
    for name in sorted(contents.keys() & known - {names.README, names.SUMS, names.EVALSET}):
        read = names.read_jsonl if name.endswith(".jsonl") else names.read_json
        document = read(name, contents[name], problems)
        if document is None:
            continue
        rules = schema(name.partition(".")[0])
        parts = document if isinstance(document, list) else [document]
        for number, part in enumerate(parts, start=1):
            for violation in violations(part, rules):
                problems.add(name, f"line {number}: {violation}" if isinstance(document, list) else violation)
        documents[name] = document
    return documents


def _check_content(
    contents: Mapping[str, bytes],
    documents: dict[str, Any],
    problems: Problems,
    digest: str,
    trust: str,
    installed: ScorerSet,
) -> Verified:
    manifest, summary = documents[names.RUN_MANIFEST], documents[names.EVAL_SUMMARY]
    evalset = _evalset(contents[names.EVALSET], problems)
    if evalset is not None:
        consistency.check_evalset(evalset, documents[names.EVALSET_MANIFEST], summary, problems)
    consistency.check_summary(summary, documents[names.EVALUATION], manifest, problems)
    dataset = documents.get(names.DATASET_MANIFEST)
    consistency.check_manifest(manifest, documents[names.EVALSET_MANIFEST], dataset, problems)
    _check_run(documents, manifest, summary, problems)
    scored_again, not_generated = 0, 0
    version, gone = summary["identity"]["scorer_version"], ""
    if evalset is not None and former_scores.is_former(version):
        gone = f"scored by {version}, whose rules this release ({installed.version}) does not have"
        _check_former(evalset, documents, summary, problems)
    elif evalset is not None:
        not_generated = _check_scores(evalset, documents, summary, problems, installed)
        scored_again = len(documents[names.PREDICTIONS]) - not_generated
    decisions = documents.get(names.GATE_DECISIONS, {}).get("decisions", ())
    signed_by = check_signatures(summary, manifest, documents[names.PREDICTIONS], decisions, trust, problems)
    written = readme(manifest, summary, contents.keys() - {names.README, names.SUMS})
    problems.check(contents[names.README] == written, names.README, "does not say what the other files say")
    return Verified(
        problems=tuple(problems),
        digest=digest,
        files=tuple(sorted(contents)),
        evaluation_id=summary["evaluation_id"],
        primary_score=summary["primary_score"],
        n_scored_again=scored_again,
        n_not_generated=not_generated,
        n_gate_decisions=len(decisions),
        signed_by=signed_by,
        not_scored_again=gone,
    )


def _evalset(content: bytes, problems: Problems) -> EvalSet | None:
    try:
        evalset = parse_evalset(content)
    except InvalidInput as error:
        problems.add(names.EVALSET, str(error))
        return None
    problems.check(canonical_jsonl(evalset.items) == content, names.EVALSET, "is not in its canonical form")
    return evalset


def _check_run(documents: dict[str, Any], manifest: Document, summary: Document, problems: Problems) -> None:
    """The files that only evidence of a run has, and of a trial."""
    of_a_run = manifest["config"] is not None
    for name in sorted(names.OF_A_RUN):
        why = "is missing, though there is a run" if of_a_run else "is present, though there is no run"
        problems.check((name in documents) == of_a_run, name, why)
    tuned = manifest["trial_id"] is not None
    why = "is missing, though the run is a trial" if tuned else "is present, though the run is not a trial"
    problems.check((names.BEST_PARAMS in documents) == tuned, names.BEST_PARAMS, why)
    if not of_a_run:
        consistency.check_evaluation_command(manifest, summary, problems)
        problems.same(names.RUN_MANIFEST, "timestamp", manifest["timestamp"], summary["evaluated_at"], "evaluated_at")
    elif documents.keys() >= names.OF_A_RUN:
        consistency.check_environment(documents[names.ENVIRONMENT], manifest, summary, problems)
        consistency.check_training_log(documents[names.TRAINING_LOG], problems)
        if tuned and names.BEST_PARAMS in documents:
            check_best_params(documents[names.BEST_PARAMS], manifest, summary, problems)


def _check_scores(
    evalset: EvalSet, documents: dict[str, Any], summary: Document, problems: Problems, installed: ScorerSet
) -> int:
    """Scores, scorecard and gate decisions made again; how many samples had nothing to score."""
    samples, card = documents[names.PREDICTIONS], summary["scorecard"]
    wrong = misplaced(evalset.items, samples, summary["samples_per_item"])
    if not problems.check(wrong is None, names.PREDICTIONS, wrong or ""):
        return 0
    version = summary["identity"]["scorer_version"]
    scorers = scorers_of(version, installed)
    if scorers is None:
        here = f"here is {installed.version}: verify with the release and the scorers that scored it"
        problems.add(names.EVAL_SUMMARY, f"was scored by {version}; {here}")
        return 0
    method = method_of(card.get("statistics_version"))
    if method is None:
        problems.add(
            names.EVAL_SUMMARY, f"has statistics of version {card['statistics_version']}: verify with its release"
        )
        return 0
    again = rescore(evalset.items, samples, card["threshold"], scorers, method)
    for difference in again.differences[:MAX_DIFFERENCES]:
        problems.add(names.PREDICTIONS, str(difference))
    if len(again.differences) > MAX_DIFFERENCES:
        problems.add(names.PREDICTIONS, f"and {len(again.differences) - MAX_DIFFERENCES} more differences")
    for text in scorecard_differences(card, again.scorecard):
        problems.add(names.EVAL_SUMMARY, f"scorecard.{text}")
    check_decisions(_gate(documents, problems), summary, evalset.items, samples, problems)
    return again.n_not_generated


def _check_former(evalset: EvalSet, documents: dict[str, Any], summary: Document, problems: Problems) -> None:
    """Scorecard and gate decisions against the scores that are stored."""
    samples = documents[names.PREDICTIONS]
    wrong = misplaced(evalset.items, samples, summary["samples_per_item"])
    if not problems.check(wrong is None, names.PREDICTIONS, wrong or ""):
        return
    try:
        for text in former_scores.former_differences(evalset.items, samples, summary["scorecard"]):
            problems.add(names.EVAL_SUMMARY, f"scorecard.{text}")
    except ValueError as error:
        problems.add(names.PREDICTIONS, str(error))
    check_decisions(_gate(documents, problems), summary, evalset.items, samples, problems)


def _gate(documents: dict[str, Any], problems: Problems) -> Document:
    """The decisions, which are those that the other files name."""
    gate: Document = documents.get(names.GATE_DECISIONS, {"decisions": []})
    ids = [decision["id"] for decision in gate["decisions"]]
    claimed = documents[names.EVALUATION]["gate_decision_ids"]
    problems.same(names.EVALUATION, "gate_decision_ids", claimed, ids, names.GATE_DECISIONS)
    problems.check(bool(ids) == (names.GATE_DECISIONS in documents), names.GATE_DECISIONS, "holds no decision")
    return gate
