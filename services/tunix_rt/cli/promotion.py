"""A trial of a sweep as a run config that makes the same model again, with where it comes from.

The config is the spec of the trial's run as the registry stores it, so a run of it has the same digest. What is said
of its origin goes into the run's tags, which change nothing of what the run does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tunix_rt.errors import FailedPrecondition, NotFound

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.evidence.facts import SweepFacts
    from tunix_rt.v1 import runs_pb2

CONFIG_FILE: Final = "run.json"
BEST_PARAMS_FILE: Final = "best_params.json"
_MAX_TAG: Final = 256
_SUCCEEDED: Final = "SUCCEEDED"


@dataclass(frozen=True)
class Promotion:
    """``config`` is what ``runs create --spec`` takes; ``warning`` is empty when the trial is the one winner."""

    config: dict[str, Any]
    best_params: dict[str, Any]
    warning: str


def promote(client: TunixClient, sweep_id: str, number: int | None = None) -> Promotion:
    """The best trial of the sweep's best configuration, or the trial ``number``.

    Raises `FailedPrecondition` when it has not succeeded, or no trial has; `NotFound` when there is no such trial.
    """
    from tunix_rt.evidence.best_params import best_params
    from tunix_rt.evidence.gathering import sweep_facts

    facts = sweep_facts(client, sweep_id)
    trial = _chosen(facts, number)
    run = client.runs.get(trial["run_id"])
    document = best_params(facts, run.id)
    tags = _provenance(facts, trial, document) | {
        "promoted.spec_digest": run.spec_digest,
        "promoted.model_digest": client.models.get(run.model_id).artifact.digest,
    }
    return Promotion(_config(run, facts, trial, tags), document, _warning(document, trial))


def _chosen(facts: SweepFacts, number: int | None) -> dict[str, Any]:
    sweep_id = facts.sweep["id"]
    if number is None:
        best = facts.results["best_trial_id"]
        if not best:
            raise FailedPrecondition(f"{sweep_id} has no trial that succeeded: there is nothing to promote")
        return next(trial for trial in facts.trials if trial["id"] == best)
    found = next((trial for trial in facts.trials if trial["number"] == number), None)
    if found is None:
        raise NotFound(f"{sweep_id} has no trial {number}; it has {len(facts.trials)}, from 0")
    if found["state"] != _SUCCEEDED:
        raise FailedPrecondition(
            f"trial {number} of {sweep_id} is {found['state']}: only one that succeeded has a model"
        )
    return found


def _config(run: runs_pb2.Run, facts: SweepFacts, trial: dict[str, Any], tags: dict[str, str]) -> dict[str, Any]:
    from tunix_rt.evidence.messages import plain

    name = f"{facts.sweep['display_name'] or facts.sweep['id']} trial {trial['number']}"
    return plain(run.spec) | {"display_name": name, "tags": {key: tags[key][:_MAX_TAG] for key in sorted(tags)}}


def _provenance(facts: SweepFacts, trial: dict[str, Any], document: dict[str, Any]) -> dict[str, str]:
    objective = document["objective"]
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
        "promoted.choice": _choice(document, trial),
        "promoted.statement": document["statement"],
        "promoted.scored_at": trial["end_time"],
    }
    return {name: value for name, value in tags.items() if value}


def _choice(document: dict[str, Any], trial: dict[str, Any]) -> str:
    best = document["best"]
    if best is None or best["trial_id"] != trial["id"]:
        return "named by hand; not the sweep's best trial"
    if document["repeats"] == 1:
        return "the sweep's best trial"
    configuration = document["best_configuration"]
    return (
        f"the best of {configuration['n_succeeded']} repeats of the best configuration, "
        f"whose mean is {configuration['objective']!r}"
    )


def _warning(document: dict[str, Any], trial: dict[str, Any]) -> str:
    best = document["best"]
    if best is None or best["trial_id"] != trial["id"]:
        return "this is not the sweep's best trial"
    return str(document["statement"]) if document["n_tied"] else ""
