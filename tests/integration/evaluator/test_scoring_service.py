"""ScoringService over real gRPC."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest
from tests.fixtures.grpc_server import serving

from tunix_rt.errors import InvalidInput
from tunix_rt.evaluator.scoring_servicer import SERVICE, ScoringServicer
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.v1 import common_pb2, evalsets_pb2, evaluations_pb2, scoring_pb2, scoring_pb2_grpc


@pytest.fixture
async def scoring() -> AsyncIterator[scoring_pb2_grpc.ScoringServiceStub]:
    def register(server: grpc.aio.Server) -> Sequence[str]:
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server(ScoringServicer(), server)
        return (SERVICE,)

    async with serving(register) as port, open_channel(f"127.0.0.1:{port}", token=None) as channel:
        yield scoring_pb2_grpc.ScoringServiceStub(channel)


def item(number: int, expected: str) -> evalsets_pb2.EvalSetItem:
    return evalsets_pb2.EvalSetItem(
        id=f"q{number}",
        prompt="?",
        expected_answer=expected,
        answer_type=evalsets_pb2.ANSWER_TYPE_NUMERIC,
        section=evalsets_pb2.SECTION_CORE if number < 3 else evalsets_pb2.SECTION_EDGE_CASE,
    )


def prediction(number: int, answer: str) -> scoring_pb2.Prediction:
    text = f"<reasoning>\nx\n</reasoning>\n<answer>{answer}</answer>"
    return scoring_pb2.Prediction(item_id=f"q{number}", prediction=text)


async def test_predictions_are_scored_and_summed_up(scoring: scoring_pb2_grpc.ScoringServiceStub) -> None:
    request = scoring_pb2.ScoreItemsRequest(
        items=[item(1, "10"), item(2, "0.5"), item(3, "7"), item(4, "8")],
        predictions=[prediction(1, "10.0"), prediction(2, "1/2"), prediction(3, "8"), prediction(4, "8")],
        threshold=0.9,
    )
    answer = await scoring.ScoreItems(request)
    assert [result.metrics["answer_correctness"] for result in answer.results] == [1.0, 1.0, 0.0, 1.0]
    card = answer.scorecard
    assert (card.n_items, card.n_scored, card.coverage, card.primary_score) == (4, 4, 1.0, 0.75)
    assert card.threshold == 0.9
    # Sample standard deviation of 1, 1, 0, 1.
    assert card.stddev == pytest.approx(0.5)
    edge = next(part for part in card.slices if (part.dimension, part.value) == ("section", "edge_case"))
    assert (edge.n_items, edge.primary_score) == (2, 0.5)
    estimates = {estimate.metric: estimate for estimate in card.metric_estimates}
    assert (estimates["answer_correctness"].n, estimates["answer_correctness"].mean) == (4, 0.75)


async def test_an_item_without_prediction_is_not_scored_as_right(scoring: scoring_pb2_grpc.ScoringServiceStub) -> None:
    answer = await scoring.ScoreItems(scoring_pb2.ScoreItemsRequest(items=[item(1, "10")]))
    assert answer.results[0].metrics.get("answer_correctness", 0.0) == 0.0
    assert answer.results[0].outcome != evaluations_pb2.ITEM_OUTCOME_UNSPECIFIED


async def test_an_answer_that_the_token_limit_cut_is_none(scoring: scoring_pb2_grpc.ScoringServiceStub) -> None:
    text = "<reasoning>\nx\n</reasoning>\n<answer>10"
    reasons = common_pb2.FINISH_REASON_LENGTH, common_pb2.FINISH_REASON_STOP
    given = [
        scoring_pb2.Prediction(item_id=f"q{n}", prediction=text, finish_reason=each) for n, each in enumerate(reasons)
    ]
    request = scoring_pb2.ScoreItemsRequest(items=[item(0, "10"), item(1, "10")], predictions=given)
    answer = await scoring.ScoreItems(request)
    assert [result.metrics["answer_correctness"] for result in answer.results] == [0.0, 1.0]
    given[0].finish_reason = 99  # type: ignore[assignment]
    with pytest.raises(grpc.aio.AioRpcError, match=r"predictions\[0\].finish_reason"):
        await scoring.ScoreItems(scoring_pb2.ScoreItemsRequest(items=[item(0, "10")], predictions=given[:1]))


async def test_every_bad_field_is_named_at_once(scoring: scoring_pb2_grpc.ScoringServiceStub) -> None:
    request = scoring_pb2.ScoreItemsRequest(
        items=[item(1, "10"), evalsets_pb2.EvalSetItem(id="q2", expected_answer="1"), item(1, "3")],
        predictions=[prediction(1, "1"), prediction(9, "1"), prediction(1, "2")],
        threshold=1.5,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scoring.ScoreItems(request)
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidInput)
    assert {violation.field for violation in error.violations} == {
        "threshold",
        "items[1].prompt",
        "items[2].id",
        "predictions[1].item_id",
        "predictions[2].item_id",
    }


async def test_no_items_are_refused(scoring: scoring_pb2_grpc.ScoringServiceStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scoring.ScoreItems(scoring_pb2.ScoreItemsRequest())
    assert str(from_rpc_error(caught.value)).startswith("items: 1 to 10000")


async def test_a_good_evalset_is_counted(scoring: scoring_pb2_grpc.ScoringServiceStub) -> None:
    rows = [
        {"id": "a", "prompt": "?", "expected_answer": "1", "category": "x", "difficulty": "easy"},
        {"id": "b", "prompt": "?", "expected_answer": "2", "category": "x", "difficulty": "hard"},
    ]
    jsonl = "\n".join(json.dumps(row) for row in rows).encode()
    answer = await scoring.ValidateEvalSet(scoring_pb2.ValidateEvalSetRequest(jsonl=jsonl))
    assert answer.valid
    assert answer.statistics.item_count == 2
    assert dict(answer.statistics.categories) == {"x": 2}
    assert {name: count for name, count in answer.statistics.difficulties.items() if count} == {"easy": 1, "hard": 1}
    assert answer.statistics.digest.startswith("sha256:")


async def test_every_violation_of_an_evalset_has_its_line(scoring: scoring_pb2_grpc.ScoringServiceStub) -> None:
    rows = [("a", "?"), ("a", "?"), ("b", "")]
    lines = [json.dumps({"id": name, "prompt": prompt, "expected_answer": "1"}) for name, prompt in rows]
    jsonl = "\n".join([*lines, "x"]).encode()
    answer = await scoring.ValidateEvalSet(scoring_pb2.ValidateEvalSetRequest(jsonl=jsonl))
    assert not answer.valid
    found = {(violation.line, violation.field) for violation in answer.violations}
    assert {(2, "id"), (3, "prompt")} <= found
    assert {line for line, _ in found} == {2, 3, 4}


async def test_bytes_that_are_not_text_are_a_violation(scoring: scoring_pb2_grpc.ScoringServiceStub) -> None:
    answer = await scoring.ValidateEvalSet(scoring_pb2.ValidateEvalSetRequest(jsonl=b"\xff\xfe"))
    assert not answer.valid
    assert "UTF-8" in answer.violations[0].description
