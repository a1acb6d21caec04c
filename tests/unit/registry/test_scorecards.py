"""Scorecards and statistics as documents and back as messages: every field arrives, and old rows still read."""

from __future__ import annotations

import random
from math import nan
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor

from tunix_rt.quality.compare import PairInput, compare
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.scorecard import Scorecard, Scored, scorecard
from tunix_rt.registry.evaluations.messages import (
    document_of,
    scorecard_document,
    scorecard_message,
    statistics_document,
)
from tunix_rt.registry.models.messages import statistics_message
from tunix_rt.v1 import evaluations_pb2 as pb


def _card() -> Scorecard:
    source = random.Random(3)
    rows = [
        Scored(
            f"i{k // 3}",
            Outcome.SCORED,
            float(source.random() < 0.6),
            {"answer_correctness": 1.0, "trace_tokens": source.gauss(200, 40)} | ({"rare": 7.0} if k == 0 else {}),
            "core",
            "algebra",
            "easy",
            answer_key=source.choice(["1", "2"]),
        )
        for k in range(30)
    ]
    return scorecard([*rows, Scored("e", Outcome.ERRORED, None)])


def _names(descriptor: Descriptor) -> set[str]:
    return {field.name for field in descriptor.fields}


def test_stored_scorecard_has_the_fields_of_the_contract_and_keeps_their_values() -> None:
    card = _card()
    document = scorecard_document(card)
    assert set(document) == _names(pb.Scorecard.DESCRIPTOR)
    message = scorecard_message(document)
    assert (message.n_items, message.n_errored, message.coverage) == (11, 1, 30 / 31)
    assert message.primary_score == card.primary_score
    for part, found in zip(message.metric_estimates, card.metric_estimates, strict=True):
        assert {name: getattr(part, name) for name in _names(pb.MetricEstimate.DESCRIPTOR)} == document_of(found) | (
            {"stddev": 0.0, "ci_low": 0.0, "ci_high": 0.0} if found.metric == "rare" else {}
        )
    assert len(message.repeats) == len(card.repeats) == 6
    for estimate, known in zip(message.repeats, card.repeats, strict=True):
        assert {name: getattr(estimate, name) for name in _names(pb.RepeatEstimate.DESCRIPTOR)} == document_of(known)


def test_what_is_not_known_is_absent() -> None:
    (rare,) = [
        each for each in scorecard_message(scorecard_document(_card())).metric_estimates if each.metric == "rare"
    ]
    assert (rare.n, rare.mean) == (1, 7.0)
    assert not any(rare.HasField(name) for name in ("stddev", "ci_low", "ci_high"))


def test_scorecard_of_an_older_release_still_reads() -> None:
    old = scorecard_document(_card())
    del old["metric_estimates"], old["repeats"]
    message = scorecard_message(old)
    assert (len(message.metric_estimates), len(message.repeats)) == (0, 0)
    assert message.verdict == pb.VERDICT_INVALID
    assert message.metric_means["rare"] == 7.0


def test_stored_statistics_have_the_fields_of_the_contract() -> None:
    rows = [PairInput(f"i{k}", 1.0, "core") for k in range(50)]
    found = compare(rows, [PairInput(f"i{k}", float(k > 3), "core") for k in range(50)])
    document = statistics_document(found)
    assert _names(pb.PairedStatistics.DESCRIPTOR) <= set(document)
    message = statistics_message(document)
    assert (message.n_regressions, message.p_value, message.detectable) == (4, found.p_value, found.detectable)
    old: dict[str, Any] = {name: value for name, value in document.items() if name not in ("detectable", "p_adjusted")}
    assert statistics_message(old).detectable == 0.0


def test_number_that_is_not_finite_is_never_stored() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        document_of(Scored("a", Outcome.SCORED, nan))
