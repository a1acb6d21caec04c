"""best_params.json of sweeps of several forms."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from tunix_rt.evidence.best_params import best_params
from tunix_rt.evidence.build import build
from tunix_rt.evidence.facts import Facts, SweepFacts
from tunix_rt.evidence.schema_check import violations
from tunix_rt.evidence.schemas import schema
from tunix_rt.evidence.verify import verify


@pytest.fixture
def tuned(facts: Facts) -> SweepFacts:
    assert facts.training is not None
    assert facts.training.sweep is not None
    return copy.deepcopy(facts.training.sweep)


def test_both_trials_come_with_their_configurations_and_the_repeats_of_those(tuned: SweepFacts) -> None:
    document = best_params(tuned, "run-1")
    assert (document["algorithm"], document["scheduler"], document["repeats"]) == ("TPE", "FIFO", 2)
    assert (document["n_trials"], document["n_failed"], document["n_tied"]) == (4, 1, 0)
    assert document["statement"] == "Configuration 1 is best."
    best, this = document["best"], document["this_trial"]
    assert (best["trial_id"], best["configuration"], best["repeat"]) == ("trial-2", 1, 0)
    assert (this["trial_id"], this["configuration"], this["repeat"]) == ("trial-1", 0, 1)
    assert document["best_configuration"]["trials"] == [
        {"trial_id": "trial-2", "repeat": 0, "state": "SUCCEEDED", "objective": 0.875},
        {"trial_id": "trial-3", "repeat": 1, "state": "FAILED"},
    ]
    assert document["this_configuration"]["difference_high"] == -0.01
    assert "trial_ids" not in document["this_configuration"]


def test_the_best_trials_own_evidence_says_it_twice_and_holds(facts: Facts, tuned: SweepFacts) -> None:
    """The run's trial becomes the best one; its configuration, then, differs from no better one."""
    assert facts.training is not None
    best, other = tuned.results["configurations"][1], tuned.results["configurations"][0]
    for name in ("difference", "difference_low", "difference_high"):
        other[name] = -best.pop(name)
    other["difference_low"], other["difference_high"] = other["difference_high"], other["difference_low"]
    tuned.results["configurations"].reverse()
    tuned.results["best_trial_id"] = "trial-1"
    document = best_params(tuned, "run-1")
    assert document["best"] == document["this_trial"]
    assert document["best_configuration"] == document["this_configuration"]
    assert verify(build(replace(facts, training=replace(facts.training, sweep=tuned)))).problems == ()


def test_a_sweep_without_a_succeeded_trial_has_no_best_one(tuned: SweepFacts) -> None:
    tuned.results["best_trial_id"] = ""
    document = best_params(tuned, "run-1")
    assert (document["best"], document["best_configuration"]) == (None, None)
    assert list(violations(document, schema("best_params"))) == []


@pytest.mark.parametrize("name", ["algorithm", "scheduler"])
def test_a_name_that_the_contracts_do_not_have_is_refused(tuned: SweepFacts, name: str) -> None:
    document: dict[str, Any] = json.loads(json.dumps(best_params(tuned, "run-1")))
    assert list(violations(document, schema("best_params"))) == []
    assert list(violations(document | {name: "BAYES"}, schema("best_params")))
