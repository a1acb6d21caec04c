from __future__ import annotations

import pytest
from google.protobuf import struct_pb2

from tunix_rt.errors import InvalidInput
from tunix_rt.evaluator.messages import items_of, result_message
from tunix_rt.evaluator.work import Evaluation, Result
from tunix_rt.quality.items import EvalItem
from tunix_rt.v1 import evalsets_pb2, evaluations_pb2


def test_an_item_survives_the_way_from_the_registry() -> None:
    meta = struct_pb2.Struct()
    meta["source"] = "hand"
    message = evalsets_pb2.EvalSetItem(
        id="q1",
        prompt="How long is it?\nIn metres – please.",
        expected_answer="2.5",
        section=evalsets_pb2.SECTION_TRACE_SENSITIVE,
        category="units",
        difficulty=evalsets_pb2.DIFFICULTY_HARD,
        answer_type=evalsets_pb2.ANSWER_TYPE_NUMERIC,
        abs_tol="0.1",
        rel_tol="0",
        unit="m",
        aliases=["2.50"],
        cluster_id="c1",
        meta=meta,
    )
    (item,) = items_of([message])
    assert item == EvalItem(
        id="q1",
        prompt="How long is it?\nIn metres – please.",
        expected_answer="2.5",
        section="trace_sensitive",
        category="units",
        difficulty="hard",
        answer_type="numeric",
        abs_tol="0.1",
        rel_tol="0",
        unit="m",
        aliases=("2.50",),
        cluster_id="c1",
        meta={"source": "hand"},
    )


def test_what_is_not_set_takes_the_default() -> None:
    (item,) = items_of([evalsets_pb2.EvalSetItem(id="q1", prompt="?", expected_answer="yes")])
    assert item == EvalItem(id="q1", prompt="?", expected_answer="yes")


def test_a_bad_item_is_named_by_its_line() -> None:
    good = evalsets_pb2.EvalSetItem(id="q1", prompt="?", expected_answer="yes")
    with pytest.raises(InvalidInput) as caught:
        items_of([good, evalsets_pb2.EvalSetItem(id="q2", expected_answer="yes")])
    assert [violation.field for violation in caught.value.violations] == ["line 2.prompt"]


def test_an_errored_result_carries_no_metrics() -> None:
    message = result_message(Result("q1", 2, "ERRORED", message="failed 3 times"))
    assert message == evaluations_pb2.ItemResult(
        item_id="q1", sample_index=2, outcome=evaluations_pb2.ITEM_OUTCOME_ERRORED, message="failed 3 times"
    )


def test_what_is_missing_is_everything_that_was_not_recorded() -> None:
    items = [EvalItem(id=name, prompt="?", expected_answer="1") for name in "ab"]
    evaluation = Evaluation(
        items=items,
        recorded=frozenset({("a", 1), ("b", 0)}),
        samples_per_item=2,
        model_reference="file:///m",
        model_digest="",
        seed=0,
        generation=None,
    )
    assert [(item.id, sample) for item, sample in evaluation.missing()] == [("a", 0), ("b", 1)]
    assert evaluation.total == 4


def test_a_trace_budget_survives_a_struct_that_knows_no_integers() -> None:
    meta = struct_pb2.Struct()
    meta["trace_budget"] = 30
    (item,) = items_of([evalsets_pb2.EvalSetItem(id="q1", prompt="?", expected_answer="yes", meta=meta)])
    assert item.trace_budget == 30
    meta["trace_budget"] = 2.5
    with pytest.raises(InvalidInput, match="trace_budget"):
        items_of([evalsets_pb2.EvalSetItem(id="q1", prompt="?", expected_answer="yes", meta=meta)])
