"""A trial of a sweep as a run config that trains the same model again, with its provenance.

The config is the spec of the trial's run as the registry stores it, so a run of it has the same digest. Its provenance
is in the run's tags (``promoted.*``), which change nothing of what the run does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tunix_rt.client.clients import TunixClient
from tunix_rt.client.resources.runs import Run
from tunix_rt.client.workflows.evidence import sweep_facts
from tunix_rt.contract.documents import document
from tunix_rt.contract.identifiers import MAX_TAG_VALUE
from tunix_rt.errors import FailedPrecondition, NotFound
from tunix_rt.evidence.best_params import best_params
from tunix_rt.evidence.facts import SweepFacts

_SUCCEEDED: Final = "SUCCEEDED"


@dataclass(frozen=True)
class TrialConfig:
    """``config`` is what ``runs create --spec`` takes; ``warning`` is empty when the trial is the one winner."""

    config: dict[str, Any]
    best_params: dict[str, Any]
    warning: str


def trial_config(client: TunixClient, sweep_id: str, number: int | None = None) -> TrialConfig:
    """The best trial of the sweep's best configuration, or the trial ``number``.

    Raises `FailedPrecondition` when it has not succeeded, or no trial has; `NotFound` when there is no such trial.
    """
    facts = sweep_facts(client, sweep_id)
    trial = _chosen(facts, number)
    run = client.runs.get(trial["run_id"])
    found = best_params(facts, run.id)
    tags = _provenance(facts, trial, found) | {
        "promoted.spec_digest": run.spec_digest,
        "promoted.model_digest": client.models.get(run.model_id).artifact.digest,
    }
    return TrialConfig(_config(run, facts, trial, tags), found, _warning(found, trial))


def _chosen(facts: SweepFacts, number: int | None) -> dict[str, Any]:
    sweep_id = facts.sweep["id"]
    if number is None:
        best = facts.results["best_trial_id"]
        if not best:
            raise FailedPrecondition(f"{sweep_id} has no trial that succeeded")
        return next(trial for trial in facts.trials if trial["id"] == best)
    found = next((trial for trial in facts.trials if trial["number"] == number), None)
    if found is None:
        raise NotFound(f"{sweep_id} has no trial {number}; it has {len(facts.trials)}, from 0")
    if found["state"] != _SUCCEEDED:
        raise FailedPrecondition(
            f"trial {number} of {sweep_id} is {found['state']}: only one that succeeded has a model"
        )
    return found


def _config(run: Run, facts: SweepFacts, trial: dict[str, Any], tags: dict[str, str]) -> dict[str, Any]:
    name = f"{facts.sweep['display_name'] or facts.sweep['id']} trial {trial['number']}"
    return document(run.spec.proto) | {
        "display_name": name,
        "tags": {key: tags[key][:MAX_TAG_VALUE] for key in sorted(tags)},
    }


def _provenance(facts: SweepFacts, trial: dict[str, Any], found: dict[str, Any]) -> dict[str, str]:
    objective = found["objective"]
    interval = [trial[end] for end in ("ci_low", "ci_high") if end in trial]
    tags = {
        "promoted.sweep": facts.sweep["id"],
        "promoted.trial": trial["id"],
        "promoted.trial_number": str(trial["number"]),
        "promoted.run": trial["run_id"],
        "promoted.evaluation": trial["evaluation_id"],
        "promoted.objective": f"{objective['mode'].lower()} {objective['metric']}",
        "promoted.score": repr(trial["objective"]),
        "promoted.interval": repr(interval) if interval else "",
        "promoted.choice": _choice(found, trial),
        "promoted.statement": found["statement"],
        "promoted.scored_at": trial["end_time"],
    }
    return {name: value for name, value in tags.items() if value}


def _choice(found: dict[str, Any], trial: dict[str, Any]) -> str:
    best = found["best"]
    if best is None or best["trial_id"] != trial["id"]:
        return "chosen by hand; not the sweep's best trial"
    if found["repeats"] == 1:
        return "the sweep's best trial"
    configuration = found["best_configuration"]
    return (
        f"the best of {configuration['n_succeeded']} repeats of the best configuration, "
        f"whose mean is {configuration['objective']!r}"
    )


def _warning(found: dict[str, Any], trial: dict[str, Any]) -> str:
    best = found["best"]
    if best is None or best["trial_id"] != trial["id"]:
        return "this is not the sweep's best trial"
    return str(found["statement"]) if found["n_tied"] else ""
