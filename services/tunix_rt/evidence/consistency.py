"""Checks that the files of evidence agree with each other; `verify` checks the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from tunix_rt.evidence import documents as names
from tunix_rt.evidence.build import SPEC_COMMAND, evaluation_command
from tunix_rt.evidence.documents import Document
from tunix_rt.evidence.problems import Problems
from tunix_rt.evidence.spec_digest import former_spec_digest, spec_digest
from tunix_rt.quality.identity import generation_digest
from tunix_rt.quality.items import EvalSet


def check_evalset(evalset: EvalSet, manifest: Document, summary: Document, problems: Problems) -> None:
    """The questions, their manifest, and the score's claim to be one on them."""
    problems.same(names.EVALSET, "its digest", evalset.digest, manifest["digest"], names.EVALSET_MANIFEST)
    for name, counted in asdict(evalset.statistics).items():
        problems.same(names.EVALSET_MANIFEST, name, manifest[name], counted, names.EVALSET)
    claimed = summary["identity"]["evalset_digest"]
    problems.same(names.EVAL_SUMMARY, "identity.evalset_digest", claimed, manifest["digest"], names.EVALSET_MANIFEST)


def check_summary(summary: Document, evaluation: Document, manifest: Document, problems: Problems) -> None:
    """What eval_summary.json says twice, and what evaluation.json and run_manifest.json say of it."""
    card, identity = summary["scorecard"], summary["identity"]
    digest = generation_digest(summary["generation"])
    problems.same(names.EVAL_SUMMARY, "identity.generation_digest", identity["generation_digest"], digest, "generation")
    score = card.get("primary_score")
    problems.same(names.EVAL_SUMMARY, "primary_score", summary["primary_score"], score, "its scorecard")
    problems.same(names.EVAL_SUMMARY, "metrics", summary["metrics"], card["metric_means"], "its scorecard")
    said = {
        "evaluation_id": summary["evaluation_id"],
        "run_id": summary["run_id"],
        "metrics": summary["metrics"],
        "verdict": card["verdict"],
        "threshold": card["threshold"],
    }
    for name, wanted in said.items():
        problems.same(names.EVALUATION, name, evaluation[name], wanted, names.EVAL_SUMMARY)
    scorer = evaluation["judge"]["scorer_version"]
    problems.same(names.EVALUATION, "judge.scorer_version", scorer, identity["scorer_version"], names.EVAL_SUMMARY)
    said = {"run_id": summary["run_id"], "model_id": summary["model_id"], "model_digest": identity["model_digest"]}
    for name, wanted in said.items():
        problems.same(names.RUN_MANIFEST, name, manifest[name], wanted, names.EVAL_SUMMARY)


def check_manifest(manifest: Document, evalset: Document, dataset: Document | None, problems: Problems) -> None:
    """run_manifest.json against the other manifests, its own config and the model's lineage."""
    for name, found in manifest["evalset"].items():
        problems.same(names.RUN_MANIFEST, f"evalset.{name}", found, evalset[name], names.EVALSET_MANIFEST)
    lineage, config = manifest["model"]["lineage"], manifest["config"]
    details = lineage.get("details", {})
    said: dict[str, tuple[Any, str]] = {
        "commit_sha": (lineage.get("code_revision", ""), "model.lineage"),
        "code_version": (details.get("code_version", ""), "model.lineage"),
    }
    together = (manifest["dataset"] is None) == (config is None)
    problems.check(together, names.RUN_MANIFEST, "has a dataset and no config, or a config and no dataset")
    if config is not None and dataset is not None:
        digests = spec_digest(config), former_spec_digest(config)
        digest = digests[1] if manifest["run_version"] == digests[1] else digests[0]
        said |= {"run_version": (digest, "the digest of config"), "command": (SPEC_COMMAND, "the format")}
        wanted = _of_dataset(dataset)
        for name, found in (manifest["dataset"] or {}).items():
            problems.same(names.RUN_MANIFEST, f"dataset.{name}", found, wanted[name], names.DATASET_MANIFEST)
        problems.same(names.RUN_MANIFEST, "config.dataset_id", config["dataset_id"], dataset["id"], "dataset")
        _check_lineage(lineage, manifest, dataset, problems)
    for name, (expected, source) in said.items():
        problems.same(names.RUN_MANIFEST, name, manifest[name], expected, source)


def check_evaluation_command(manifest: Document, summary: Document, problems: Problems) -> None:
    """The command of evidence that holds no run."""
    found = {
        "generation": summary["generation"],
        "evalset_key": manifest["evalset"]["key"],
        "threshold": summary["scorecard"]["threshold"],
        "samples_per_item": summary["samples_per_item"],
    }
    command = evaluation_command(found, manifest["model"]["reference"])
    problems.same(names.RUN_MANIFEST, "command", manifest["command"], command, names.EVAL_SUMMARY)


def check_environment(environment: Document, manifest: Document, summary: Document, problems: Problems) -> None:
    """Attempts are numbered from 1 and as many as the run says."""
    numbers = [attempt["number"] for attempt in environment["attempts"]]
    wanted = list(range(1, manifest["attempts"] + 1))
    problems.same(names.ENVIRONMENT, "attempts (their numbers)", numbers, wanted, names.RUN_MANIFEST)
    ended = environment["evaluation"].get("end_time")
    problems.same(names.ENVIRONMENT, "evaluation.end_time", ended, summary["evaluated_at"], names.EVAL_SUMMARY)


def check_training_log(lines: Sequence[Document], problems: Problems) -> None:
    """Rows in the order of their steps, then log lines in the order of attempts and sequences."""
    kinds = [line["kind"] for line in lines]
    ordered = sorted(kinds, key=["metrics", "log", "left_out"].index) == kinds and kinds.count("left_out") <= 1
    steps = [line["step"] for line in lines if line["kind"] == "metrics"]
    places = [(line["attempt"], line["sequence"]) for line in lines if line["kind"] == "log"]
    ordered = ordered and all(a < b for a, b in pairwise(steps)) and all(a < b for a, b in pairwise(places))
    problems.check(ordered, names.TRAINING_LOG, "is not in order: metrics by step, then log lines by sequence")


def _check_lineage(lineage: Document, manifest: Document, dataset: Document, problems: Problems) -> None:
    details = lineage.get("details", {})
    wanted = {
        "run_id": (lineage.get("run_id"), manifest["run_id"]),
        "dataset_id": (lineage.get("dataset_id"), dataset["id"]),
        "base_model": (lineage.get("base_model"), manifest["config"]["base_model"]),
        "details.dataset_digest": (details.get("dataset_digest", dataset["digest"]), dataset["digest"]),
        "details.spec_digest": (details.get("spec_digest", manifest["run_version"]), manifest["run_version"]),
    }
    for name, (found, expected) in wanted.items():
        problems.same(names.RUN_MANIFEST, f"model.lineage.{name}", found, expected, "the rest of it")


def _of_dataset(dataset: Document) -> Mapping[str, Any]:
    return {
        "id": dataset["id"],
        "key": dataset["key"],
        "digest": dataset["digest"],
        "trace_count": dataset["manifest"]["trace_count"],
    }
