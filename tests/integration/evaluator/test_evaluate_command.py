from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tunix_rt.bus import CloudEvent, Delivery, Done
from tunix_rt.errors import InvalidArtifact
from tunix_rt.evaluator.attempt import Limits
from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.v1 import common_pb2, evaluations_pb2

if TYPE_CHECKING:
    from .conftest import House

SUCCEEDED = common_pb2.JOB_STATE_SUCCEEDED
FAILED = common_pb2.JOB_STATE_FAILED


def command() -> Delivery:
    event = CloudEvent(
        id="evt-1",
        type="tunix_rt.evaluate.v1",
        source="/test",
        subject="tunix.cmd.evaluate",
        resource_id="eval-1",
        time=datetime.now(UTC),
        data=json.dumps({"jobId": "eval-1"}).encode(),
    )
    return Delivery(event, failures=0, last_chance=False)


async def test_every_item_is_generated_scored_and_recorded(house: House) -> None:
    assert await house.handler()(command()) == Done()
    assert sorted(house.registry.stored) == [("q1", 0), ("q2", 0), ("q3", 0), ("q4", 0), ("q5", 0)]
    correct = {item: stored.metrics["answer_correctness"] for (item, _), stored in house.registry.stored.items()}
    assert correct == {"q1": 1.0, "q2": 1.0, "q3": 0.0, "q4": 1.0, "q5": 1.0}
    stored = house.registry.stored[("q4", 0)]
    assert stored.outcome == evaluations_pb2.ITEM_OUTCOME_SCORED
    assert stored.prediction == "<reasoning>\n4 and 4\n</reasoning>\n<answer>8</answer>"
    assert stored.extracted_answer == "8"
    assert stored.metrics["format_compliance"] == 1.0
    assert (stored.finish_reason, stored.prompt_tokens, stored.completion_tokens) == (
        common_pb2.FINISH_REASON_STOP,
        11,
        22,
    )
    assert house.registry.completion is not None
    assert house.registry.completion.state == SUCCEEDED
    assert house.registry.completion.evaluation.model_digest == "sha256:" + "1" * 64
    assert house.registry.completion.evaluation.scorer_version == BUILT_IN_VERSION
    assert max(house.registry.batches) <= 2


async def test_the_model_is_loaded_once_with_its_digest_and_concurrency_is_bounded(house: House) -> None:
    house.inferencer.hold = {"q1", "q2", "q3", "q4", "q5"}
    handling = asyncio.ensure_future(house.handler()(command()))
    async with asyncio.timeout(10):
        while house.inferencer.running < 3:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    house.inferencer.let_go.set()
    await handling
    assert [(load.reference, load.expected_digest) for load in house.inferencer.loads] == [
        ("file:///models/m", "sha256:" + "1" * 64)
    ]
    assert house.inferencer.peak == 3


@pytest.mark.parametrize("weight_format", ["", "int8-v1"])
async def test_the_model_is_loaded_in_the_weight_format_of_the_generation_config(
    house: House, weight_format: str
) -> None:
    house.registry.generation.weight_format = weight_format
    await house.handler()(command())
    assert [load.weight_format for load in house.inferencer.loads] == [weight_format]
    assert {request.config.weight_format for request in house.inferencer.requests} == {weight_format}


async def test_an_evaluation_of_former_prompts_is_not_generated_by_todays(house: House) -> None:
    house.registry.generation.ClearField("prompt_version")
    await house.handler()(command())
    assert house.inferencer.requests == []
    assert house.registry.completion is not None
    assert "its prompts are of version 1" in house.registry.completion.message


async def test_each_sample_has_its_own_seed_and_every_prompt_is_one_user_turn(house: House) -> None:
    house.registry.samples_per_item = 2
    await house.handler()(command())
    assert len(house.registry.stored) == 10
    seeds = sorted((r.chat.messages[0].content, r.config.seed) for r in house.inferencer.requests)
    assert seeds == [(f"What is {n} + {n}?", 100 + sample) for n in range(1, 6) for sample in (0, 1)]
    for request in house.inferencer.requests:
        assert [message.role for message in request.chat.messages] == ["user"]
        assert (request.config.max_new_tokens, request.config.temperature) == (32, 0.5)


async def test_a_second_attempt_generates_only_what_is_missing(house: House) -> None:
    for item in ("q1", "q4"):
        house.registry.stored[(item, 0)] = evaluations_pb2.ItemResult(item_id=item, prediction="from before")
    await house.handler()(command())
    asked = sorted(request.chat.messages[0].content for request in house.inferencer.requests)
    assert asked == ["What is 2 + 2?", "What is 3 + 3?", "What is 5 + 5?"]
    assert house.registry.stored[("q1", 0)].prediction == "from before"
    progress = house.registry.heartbeats[0].progress
    assert (progress.done, progress.total, progress.unit) == (2, 5, "items")


async def test_an_evaluation_with_nothing_missing_only_completes(house: House) -> None:
    for number in range(1, 6):
        house.registry.stored[(f"q{number}", 0)] = evaluations_pb2.ItemResult(item_id=f"q{number}")
    await house.handler()(command())
    assert house.inferencer.requests == []
    assert house.registry.completion is not None
    assert house.registry.completion.state == SUCCEEDED


async def test_an_inferencer_that_is_away_is_waited_for(house: House) -> None:
    house.inferencer.unavailable = 6  # more than the channel's own four tries
    await house.handler()(command())
    assert {stored.outcome for stored in house.registry.stored.values()} == {evaluations_pb2.ITEM_OUTCOME_SCORED}
    assert len(house.registry.stored) == 5


async def test_an_inferencer_that_stays_away_fails_the_attempt_for_another_try(house: House) -> None:
    house.inferencer.unavailable = 10_000
    impatient = Limits(concurrency=3, batch=2, item_tries=2, inferencer_patience_seconds=0.5)
    assert await house.handler(impatient)(command()) == Done()
    completion = house.registry.completion
    assert completion is not None
    assert (completion.state, completion.reason, completion.retryable) == (FAILED, common_pb2.REASON_INTERNAL, True)
    assert "has not answered for" in completion.message
    assert house.registry.stored == {}


async def test_a_full_inferencer_is_asked_again(house: House) -> None:
    house.inferencer.exhausted = 5
    await house.handler()(command())
    assert {stored.outcome for stored in house.registry.stored.values()} == {evaluations_pb2.ITEM_OUTCOME_SCORED}


async def test_a_forgotten_handle_is_loaded_again(house: House) -> None:
    house.inferencer.forget_after = 2
    await house.handler()(command())
    assert len(house.inferencer.loads) == 2
    assert {stored.outcome for stored in house.registry.stored.values()} == {evaluations_pb2.ITEM_OUTCOME_SCORED}


async def test_an_item_that_fails_repeatedly_is_errored_and_the_rest_is_scored(house: House) -> None:
    house.inferencer.broken = {"q2"}
    await house.handler()(command())
    stored = house.registry.stored[("q2", 0)]
    assert stored.outcome == evaluations_pb2.ITEM_OUTCOME_ERRORED
    assert stored.message.startswith("failed 2 times: INTERNAL")
    assert len(stored.metrics) == 0
    scored = [s for s in house.registry.stored.values() if s.outcome == evaluations_pb2.ITEM_OUTCOME_SCORED]
    assert len(scored) == 4
    assert house.registry.completion is not None
    assert house.registry.completion.state == SUCCEEDED


async def test_a_prompt_that_does_not_fit_is_errored_at_once_with_the_reason(house: House) -> None:
    house.inferencer.too_long = {"q5"}
    await house.handler()(command())
    stored = house.registry.stored[("q5", 0)]
    assert stored.outcome == evaluations_pb2.ITEM_OUTCOME_ERRORED
    assert stored.message == "not generated: chat: 600 prompt tokens do not fit into a context of 512"


@pytest.mark.parametrize("kind", ["missing", "other"])
async def test_a_missing_or_mismatching_model_fails_for_good(house: House, kind: str) -> None:
    if kind == "missing":
        house.inferencer.load_error = InvalidArtifact("file:///models/m is missing or empty")
    else:
        house.inferencer.digest = "sha256:" + "2" * 64
    assert await house.handler()(command()) == Done()
    completion = house.registry.completion
    assert completion is not None
    assert (completion.state, completion.retryable) == (FAILED, False)
    assert completion.reason == common_pb2.REASON_INVALID_ARTIFACT
    assert ("is missing or empty" if kind == "missing" else "2222, expected") in completion.message
    assert house.registry.stored == {}


async def test_a_cancellation_interrupts_generation(house: House) -> None:
    house.inferencer.hold = {"q2", "q3", "q4", "q5"}
    running = asyncio.ensure_future(house.handler()(command()))
    await house.registry.until_stored(1)
    house.registry.cancel_requested = True
    assert await asyncio.wait_for(running, 5) == Done()
    completion = house.registry.completion
    assert completion is not None
    assert completion.state == common_pb2.JOB_STATE_CANCELLED
    assert completion.reason == common_pb2.REASON_USER_CANCELLED
    assert sorted(house.registry.stored) == [("q1", 0)]


async def test_a_lost_lease_stops_everything_at_once_and_reports_nothing(house: House) -> None:
    house.inferencer.hold = {"q2", "q3", "q4", "q5"}
    running = asyncio.ensure_future(house.handler()(command()))
    await house.registry.until_stored(1)
    house.registry.lost = True
    assert await asyncio.wait_for(running, 5) == Done()
    assert house.registry.completion is None
    assert house.registry.released == []


async def test_stopping_records_what_is_done_and_hands_the_rest_back(house: House) -> None:
    house.inferencer.hold = {"q3", "q4", "q5"}
    running = asyncio.ensure_future(house.handler()(command()))
    await house.registry.until_stored(2)
    house.stop.set()
    assert await asyncio.wait_for(running, 5) == Done()
    assert house.registry.released == ["the worker stops"]
    assert house.registry.completion is None
    assert sorted(house.registry.stored) == [("q1", 0), ("q2", 0)]


async def test_a_registry_that_is_away_for_a_while_loses_nothing(house: House) -> None:
    house.inferencer.hold = {"q2", "q3", "q4", "q5"}
    running = asyncio.ensure_future(house.handler()(command()))
    await house.registry.until_stored(1)
    house.registry.unavailable = 12
    house.inferencer.let_go.set()
    assert await asyncio.wait_for(running, 30) == Done()
    assert len(house.registry.stored) == 5
    assert house.registry.completion is not None
    assert house.registry.completion.state == SUCCEEDED
