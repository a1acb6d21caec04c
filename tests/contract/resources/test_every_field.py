"""What is given comes back, and lists go on to a next page: fields that no other test sets."""

from __future__ import annotations

from typing import Any

from tunix_rt.contract.generation import PROMPT_VERSION
from tunix_rt.v1 import common_pb2, datasets_pb2, evalsets_pb2, models_pb2
from tunix_rt.v1 import evaluations_pb2 as pb


async def test_an_evalset_keeps_its_description_and_tags(registry: Any) -> None:
    request = evalsets_pb2.CreateEvalSetRequest(
        request_id=registry.request_id(),
        key="quiz",
        jsonl=registry.jsonl([registry.item(0)]),
        description="one question",
        tags={"team": "a"},
    )
    made = await registry.evalsets.CreateEvalSet(request, timeout=20)
    found = await registry.evalsets.GetEvalSet(evalsets_pb2.GetEvalSetRequest(id=made.id), timeout=20)
    assert (found.description, dict(found.tags)) == ("one question", {"team": "a"})


async def test_a_model_keeps_its_tags(registry: Any) -> None:
    request = models_pb2.RegisterModelRequest(
        request_id=registry.request_id(), name="tiny", reference="pkg://some_model", tags={"team": "a"}
    )
    made = await registry.models.RegisterModel(request, timeout=20)
    assert dict((await registry.models.GetModel(models_pb2.GetModelRequest(id=made.id), timeout=20)).tags) == {
        "team": "a"
    }


async def test_what_an_evaluator_records_comes_back_whole(registry: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    config = common_pb2.GenerationConfig(
        stop=["\n\n"], stop_token_ids=[7], chat_template="plain", parse_control_tokens=True
    )
    created = await registry.queued(evalset.id, model.id, samples_per_item=2, generation=config)
    assert (list(created.generation.stop), list(created.generation.stop_token_ids)) == (["\n\n"], [7])
    assert (created.generation.chat_template, created.generation.parse_control_tokens) == ("plain", True)
    assert created.generation.prompt_version == PROMPT_VERSION
    first = await registry.claim(created.id)
    given = pb.ItemResult(
        item_id="q000",
        sample_index=1,
        outcome=pb.ITEM_OUTCOME_SCORED,
        prediction="<answer>1</answer>",
        extracted_answer="1",
        metrics={"answer_correctness": 1.0},
        finish_reason=common_pb2.FINISH_REASON_LENGTH,
        prompt_tokens=11,
        completion_tokens=7,
    )
    skipped = pb.ItemResult(item_id="q001", outcome=pb.ITEM_OUTCOME_SKIPPED, message="no usable reference")
    await registry.record(first.lease, [given, skipped])
    request = pb.ListItemResultsRequest(evaluation_id=created.id)
    assert list((await registry.evaluations.ListItemResults(request, timeout=20)).results) == [given, skipped]
    second = await registry.record(first.lease, [pb.ItemResult(item_id="q000", outcome=pb.ITEM_OUTCOME_SKIPPED)])
    assert second.stored == 1
    last = pb.ItemResult(item_id="q001", sample_index=1, outcome=pb.ITEM_OUTCOME_SKIPPED)
    await registry.record(first.lease, [last])
    card = (await registry.complete(first.lease, model.id)).scorecard
    assert (card.n_items, card.n_scored, card.n_skipped) == (2, 1, 1)


async def test_every_list_goes_on_to_a_next_page(registry: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    await registry.evalset(3, key="other")
    scored = [await registry.scored(evalset.id, model.id, [1.0, value]) for value in (0.0, 1.0)]
    alias, etag = "", ""
    for each in (await registry.model("m"), await registry.model("m")):
        request = models_pb2.SetAliasRequest(
            request_id=registry.request_id(), model_name="m", alias="production", model_id=each.id, etag=etag
        )
        moved = await registry.models.SetAlias(request, timeout=20)
        alias, etag = moved.alias, moved.etag
    assert alias == "production"
    for newest in ("", "r1"):
        policy = models_pb2.CreateGatePolicyRequest(request_id=registry.request_id(), name="strict", etag=newest)
        await registry.models.CreateGatePolicy(policy, timeout=20)
    for baseline, candidate in (scored, scored[::-1]):
        decide = models_pb2.DecideGateRequest(
            request_id=registry.request_id(), baseline_evaluation_id=baseline.id, candidate_evaluation_id=candidate.id
        )
        await registry.models.DecideGate(decide, timeout=20)
    lists = [
        (registry.evalsets.ListEvalSets, evalsets_pb2.ListEvalSetsRequest),
        (registry.evaluations.ListEvaluations, pb.ListEvaluationsRequest),
        (registry.models.ListPromotions, models_pb2.ListPromotionsRequest),
        (registry.models.ListGatePolicies, models_pb2.ListGatePoliciesRequest),
        (registry.models.ListGateDecisions, models_pb2.ListGateDecisionsRequest),
    ]
    for call, asked in lists:
        first = await call(asked(page_size=1), timeout=20)
        second = await call(asked(page_size=1, page_token=first.next_page_token), timeout=20)
        entries = first.DESCRIPTOR.fields[0].name
        (shown,), (after,) = (getattr(page, entries) for page in (first, second))
        assert shown != after


async def test_a_dataset_counts_the_traces_that_it_had_twice(registry: Any) -> None:
    line = (
        '{"trace_version": "1.0", "prompt": "1 + 1?", "final_answer": "2", '
        '"steps": [{"i": 0, "type": "think", "content": "1 + 1 = 2"}]}\n'
    )
    spec = datasets_pb2.ImportDatasetSpec(request_id=registry.request_id(), key="sums")

    async def parts() -> Any:
        yield datasets_pb2.ImportDatasetRequest(spec=spec)
        yield datasets_pb2.ImportDatasetRequest(chunk=(line * 3).encode())

    made = await registry.datasets.ImportDataset(parts(), timeout=20)
    assert (made.manifest.trace_count, made.manifest.dropped_duplicates) == (1, 2)
