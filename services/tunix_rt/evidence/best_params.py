"""best_params.json: what a sweep found, and the trial that one run carried out. Of evidence, and of a promotion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunix_rt.evidence.documents import Document
from tunix_rt.evidence.facts import SweepFacts

_TRIAL = (
    "number",
    "configuration",
    "repeat",
    "run_id",
    "evaluation_id",
    "parameters",
    "objective",
    "ci_low",
    "ci_high",
    "state",
    "steps",
)
_COUNTS = ("n_trials", "n_succeeded", "n_failed", "n_stopped")


def best_params(facts: SweepFacts, run_id: str) -> Document:
    """The sweep's best trial with its configuration, and those of ``run_id``'s trial; the two may be the same.

    A configuration is all trials of the same parameters, one for each of ``repeats``; the best trial is the best one
    of the best configuration. Raises `StopIteration` when no trial of the sweep is of that run.
    """
    sweep, results = facts.sweep, facts.results
    spec = sweep["spec"]
    by_id = {trial["id"]: trial for trial in facts.trials}
    best = by_id.get(results["best_trial_id"])
    this = next(trial for trial in facts.trials if trial["run_id"] == run_id)
    return {
        "tuning_job_id": sweep["id"],
        "objective": {"metric": spec["objective"]["metric"], "mode": spec["objective"]["mode"]},
        "algorithm": spec["algorithm"],
        "scheduler": spec["scheduler"],
        "repeats": spec["repeats"],
        **{name: sweep[name] for name in _COUNTS},
        "n_tied": results["n_tied"],
        "statement": results["statement"],
        "best": None if best is None else _trial(best),
        "best_configuration": None if best is None else _configuration(results, best, by_id),
        "this_trial": _trial(this),
        "this_configuration": _configuration(results, this, by_id),
    }


def _trial(trial: Document) -> Document:
    return {"trial_id": trial["id"]} | {name: trial[name] for name in _TRIAL if name in trial}


def _configuration(results: Document, trial: Document, trials: Mapping[str, Document]) -> Document:
    """The configuration of ``trial``, with the outcome of each repeat in place of their ids."""
    found = next(each for each in results["configurations"] if each["index"] == trial["configuration"])
    repeats: Sequence[Document] = [trials[trial_id] for trial_id in found["trial_ids"]]
    told = [
        {"trial_id": repeat["id"]} | {name: repeat[name] for name in ("repeat", "state", "objective") if name in repeat}
        for repeat in sorted(repeats, key=lambda repeat: repeat["repeat"])
    ]
    return {name: value for name, value in found.items() if name != "trial_ids"} | {"trials": told}
