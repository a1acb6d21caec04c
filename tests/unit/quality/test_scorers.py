"""Sets of scorers: their identity, and what a third-party scorer may do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.scorers import BUILT_IN, BUILT_IN_SCORERS, Range, Scorer, ScorerSet
from tunix_rt.quality.scoring import score_item

ITEM = EvalItem("q", "What is 40 + 2?", "42", answer_type="numeric")
RIGHT = "<reasoning>40 + 2 = 42</reasoning><answer>42</answer>"


def length(item: EvalItem, prediction: str, extraction: Any) -> tuple[float, dict[str, Any]]:
    return len(prediction), {"answer_chars": len(extraction.answer or "")}


LENGTH = Scorer("acme.length", "1", length, Range.COUNT)


def constant(value: Any, details: Any = None) -> Callable[..., Any]:
    return lambda item, prediction, extraction: (value, {} if details is None else details)


def test_built_in_set_has_the_versions_that_its_number_stands_for() -> None:
    # Whoever changes a scorer gives it a new version, and the set a new number, here and there.
    assert [(scorer.name, scorer.version) for scorer in BUILT_IN] == [
        ("answer_correctness", "3"),
        ("format_compliance", "3"),
        ("trace_coherence", "3"),
        ("trace_tokens", "3"),
    ]
    assert BUILT_IN_SCORERS.version == "tunix-rt-scorer/3"


def test_every_metric_is_one_that_its_scorer_declares() -> None:
    item = EvalItem("q", "What is 40 + 2?", "42", meta={"trace_budget": 7})
    declared = [metric for scorer in BUILT_IN for metric in scorer.metrics]
    assert sorted(score_item(item, RIGHT).metrics) == sorted(declared)


def test_identity_follows_every_third_party_scorers_name_version_and_range() -> None:
    other = Scorer("acme.other", "1", constant(1.0))
    sets = [
        ScorerSet(),
        ScorerSet((LENGTH,)),
        ScorerSet((Scorer("acme.length", "2", length, Range.COUNT),)),
        ScorerSet((Scorer("acme.length", "1", length, Range.UNIT),)),
        ScorerSet((Scorer("acme.size", "1", length, Range.COUNT),)),
        ScorerSet((LENGTH, other)),
    ]
    versions = [one.version for one in sets]
    assert len(set(versions)) == len(versions)
    assert all(re.fullmatch(r"tunix-rt-scorer/3(\+[0-9a-f]{12})?", version) for version in versions)
    assert ScorerSet((other, LENGTH)).version == ScorerSet((LENGTH, other)).version


def test_third_party_metric_stands_beside_the_built_in_ones() -> None:
    found = score_item(ITEM, RIGHT, scorers=ScorerSet((LENGTH,)))
    assert found.metrics == score_item(ITEM, RIGHT).metrics | {"acme.length": float(len(RIGHT))}
    assert found.details["acme.length"] == {"answer_chars": 2}
    assert (found.outcome, found.message) == (Outcome.SCORED, "")
    assert ScorerSet((LENGTH,)).counts == {"trace_tokens", "acme.length"}


def raising(item: EvalItem, prediction: str, extraction: Any) -> tuple[float, dict[str, Any]]:
    raise KeyError("no model")


@pytest.mark.parametrize(
    ("score", "why"),
    [
        (raising, "KeyError"),
        (constant(1.5), "1.5, which is not in [0, 1]"),
        (constant(-0.1), "not in [0, 1]"),
        (constant(float("nan")), "not in [0, 1]"),
        (constant("much"), "ValueError"),
        (constant(None), "TypeError"),
        (constant(1.0, {"x": object()}), "TypeError"),
        (constant(1.0, {"x": float("inf")}), "ValueError"),
        (lambda item, prediction, extraction: 1.0, "TypeError"),
        (lambda item: (1.0, {}), "TypeError"),
    ],
)
def test_scorer_that_fails_leaves_out_its_metric_and_nothing_else(score: Callable[..., Any], why: str) -> None:
    broken = Scorer("acme.broken", "7", score)
    found = score_item(ITEM, RIGHT, scorers=ScorerSet((broken, LENGTH)))
    assert found.outcome is Outcome.SCORED
    assert found.metrics == score_item(ITEM, RIGHT, scorers=ScorerSet((LENGTH,))).metrics
    assert found.message.startswith("scorer acme.broken 7 failed (") and why in found.message
    assert "acme.broken" not in found.details
