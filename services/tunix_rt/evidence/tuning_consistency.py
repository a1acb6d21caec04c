"""Whether best_params.json agrees with the run that its trial is, with its score, and with itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from tunix_rt.evidence import documents as names
from tunix_rt.evidence.documents import Document
from tunix_rt.evidence.problems import Problems

PRIMARY_SCORE = "primary_score"
_ROUNDING = 1e-12
_SUCCEEDED, _FAILED, _CANCELLED = "SUCCEEDED", "FAILED", "CANCELLED"


def check_best_params(tuned: Document, manifest: Document, summary: Document, problems: Problems) -> None:
    """Hold the sweep's outcome against run_manifest.json and eval_summary.json, and work out again what it says twice.

    What only the sweep's other trials would show (how many there were, which are tied) is not seen.
    """
    _check_run(tuned, manifest, problems)
    _check_score(tuned, summary, problems)
    pairs = [("this_trial", "this_configuration")]
    together = (tuned["best"] is None) == (tuned["best_configuration"] is None)
    problems.check(together, names.BEST_PARAMS, "has one of best and best_configuration without the other")
    if tuned["best"] is not None and together:
        pairs.append(("best", "best_configuration"))
        _check_best(tuned, problems)
    for trial, configuration in pairs:
        _check_place(tuned, trial, configuration, problems)
        _check_configuration(tuned[configuration], configuration, tuned["repeats"], problems)
    ended = sum(tuned[name] for name in ("n_succeeded", "n_failed", "n_stopped"))
    problems.check(ended <= tuned["n_trials"], names.BEST_PARAMS, f"n_trials is {tuned['n_trials']}, but {ended} ended")


def _check_run(tuned: Document, manifest: Document, problems: Problems) -> None:
    this = tuned["this_trial"]
    for name, found, wanted in (
        ("tuning_job_id", tuned["tuning_job_id"], manifest["tuning_job_id"]),
        ("this_trial.trial_id", this["trial_id"], manifest["trial_id"]),
        ("this_trial.run_id", this["run_id"], manifest["run_id"]),
    ):
        problems.same(names.BEST_PARAMS, name, found, wanted, names.RUN_MANIFEST)
    for name, value in this["parameters"].items():
        found = _at(manifest["config"]["hyperparameters"], name)
        problems.check(
            found == value, names.BEST_PARAMS, f"this_trial.parameters.{name} is {value!r}, but config says {found!r}"
        )


def _check_score(tuned: Document, summary: Document, problems: Problems) -> None:
    """The objective of a trial that took it from this very evaluation, as it was scored then."""
    this = tuned["this_trial"]
    if (
        "scored_at" in summary
        or tuned["objective"]["metric"] != PRIMARY_SCORE
        or this.get("evaluation_id") != summary["evaluation_id"]
    ):
        return
    card = summary["scorecard"]
    for name, wanted in (("objective", "primary_score"), ("ci_low", "ci_low"), ("ci_high", "ci_high")):
        found = this.get(name)
        problems.same(names.BEST_PARAMS, f"this_trial.{name}", found, card.get(wanted), names.EVAL_SUMMARY)


def _check_best(tuned: Document, problems: Problems) -> None:
    best, configuration, this = tuned["best"], tuned["best_configuration"], tuned["this_trial"]
    if any(best[name] == this[name] for name in ("trial_id", "run_id", "number")):
        problems.same(names.BEST_PARAMS, "best", best, this, "this_trial, which it is")
    if configuration["index"] == tuned["this_configuration"]["index"]:
        problems.same(
            names.BEST_PARAMS, "best_configuration", configuration, tuned["this_configuration"], "this_configuration"
        )
    better = max if tuned["objective"]["mode"] == "MAX" else min
    scores = _scores(configuration)
    winner = better(scores) if scores else None
    problems.same(names.BEST_PARAMS, "best.objective", best.get("objective"), winner, "the best of its configuration")
    means = [each["objective"] for each in (configuration, tuned["this_configuration"]) if "objective" in each]
    first = bool(means) and better(means) == configuration.get("objective")
    problems.check(first, names.BEST_PARAMS, "best_configuration.objective is not the better of the two")
    lone = "difference" not in configuration and not configuration["tied_with_best"]
    problems.check(lone, names.BEST_PARAMS, "best_configuration is compared with itself")


def _check_place(tuned: Document, name: str, configuration: str, problems: Problems) -> None:
    """A trial's number, its configuration and its repeat belong together, and the configuration lists it."""
    trial, found = tuned[name], tuned[configuration]
    number = trial["configuration"] * tuned["repeats"] + trial["repeat"]
    problems.same(names.BEST_PARAMS, f"{name}.number", trial["number"], number, "configuration × repeats + repeat")
    for part, wanted in (("index", trial["configuration"]), ("parameters", trial["parameters"])):
        problems.same(names.BEST_PARAMS, f"{configuration}.{part}", found[part], wanted, name)
    told = {part: trial[part] for part in ("trial_id", "repeat", "state", "objective") if part in trial}
    listed = [each for each in found["trials"] if each["trial_id"] == trial["trial_id"]]
    problems.same(names.BEST_PARAMS, f"{configuration}.trials", listed, [told], name)


def _check_configuration(configuration: Document, name: str, repeats: int, problems: Problems) -> None:
    """Counts, mean and intervals of a configuration against its trials and each other."""
    numbers = [trial["repeat"] for trial in configuration["trials"]]
    distinct = numbers == sorted(set(numbers) & set(range(repeats)))
    problems.check(distinct, names.BEST_PARAMS, f"{name}.trials are not repeats from 0 to {repeats - 1}, each once")
    states = [trial["state"] for trial in configuration["trials"]]
    for part, count in (("n_succeeded", states.count(_SUCCEEDED)), ("n_failed", states.count(_FAILED))):
        problems.same(names.BEST_PARAMS, f"{name}.{part}", configuration[part], count, "its trials")
    stopped = configuration["n_stopped"] <= states.count(_CANCELLED)
    problems.check(stopped, names.BEST_PARAMS, f"{name}.n_stopped is more than were cancelled")
    scores, mean = _scores(configuration), configuration.get("objective")
    agrees = (
        math.isclose(mean, math.fsum(scores) / len(scores), rel_tol=_ROUNDING, abs_tol=_ROUNDING)
        if scores and mean is not None
        else not scores and mean is None
    )
    problems.check(agrees, names.BEST_PARAMS, f"{name}.objective is {mean!r}, which is not the mean of its trials'")
    for middle, low, high in (("objective", "ci_low", "ci_high"), ("difference", "difference_low", "difference_high")):
        ends = [configuration[part] for part in (low, middle, high) if part in configuration]
        ordered = all(a <= b + _ROUNDING for a, b in pairwise(ends))
        problems.check(ordered, names.BEST_PARAMS, f"{name}.{middle} lies outside its interval")
    worst, best = configuration.get("difference_low"), configuration.get("difference_high")
    if worst is not None and best is not None:
        problems.same(
            names.BEST_PARAMS,
            f"{name}.tied_with_best",
            configuration["tied_with_best"],
            worst <= 0 <= best,
            "its interval",
        )


def _scores(configuration: Document) -> list[float]:
    return [
        trial["objective"] for trial in configuration["trials"] if trial["state"] == _SUCCEEDED and "objective" in trial
    ]


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, Mapping) else None
    return document
