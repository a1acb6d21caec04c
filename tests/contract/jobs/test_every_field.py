"""What is given comes back, and lists go on to a next page: fields of jobs that no other test sets."""

from __future__ import annotations

from typing import Any

from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.v1 import common_pb2, evaluations_pb2, events_pb2, jobs_pb2, models_pb2, runs_pb2, sweeps_pb2

TIMEOUT = 20


async def test_a_run_is_cancelled_at_its_deadline(registry: Any) -> None:
    run = await registry.create_run(deadline_seconds=10)
    assert (await registry.get_run(run.id)).spec.deadline_seconds == 10
    await registry.claim(run.id)
    await registry.reap(after_seconds=9)
    assert (await registry.get_run(run.id)).state == common_pb2.JOB_STATE_RUNNING
    await registry.reap(after_seconds=11)
    run = await registry.get_run(run.id)
    assert (run.state, run.reason) == (common_pb2.JOB_STATE_CANCELLING, common_pb2.REASON_DEADLINE)


async def test_a_run_keeps_how_its_texts_are_read(registry: Any) -> None:
    given = runs_pb2.Hyperparameters(chat_template="{{ messages }}", parse_control_tokens=True)
    run = await registry.create_run(hyperparameters=given)
    found = (await registry.get_run(run.id)).spec.hyperparameters
    assert (found.chat_template, found.parse_control_tokens) == ("{{ messages }}", True)


async def test_a_sweep_keeps_its_labels_and_every_setting(registry: Any) -> None:
    spec = registry.sweep_spec(
        parameters=[
            sweeps_pb2.Parameter(
                name="warmup_steps",
                quniform=sweeps_pb2.QUniform(low=2, high=10, q=2),
            )
        ],
        scheduler=sweeps_pb2.TRIAL_SCHEDULER_MEDIAN_STOPPING,
        scheduling=sweeps_pb2.SchedulerSettings(metric="loss", min_trials=4),
        seed=7,
        trial_resources={"CPU": 0.5},
    )
    request = sweeps_pb2.CreateSweepRequest(
        request_id=registry.request_id(), spec=spec, display_name="labelled", tags={"team": "a"}
    )
    made = await registry.sweeps.CreateSweep(request, timeout=TIMEOUT)
    found = await registry.get_sweep(made.id)
    assert (found.display_name, dict(found.tags)) == ("labelled", {"team": "a"})
    assert found.spec.parameters == spec.parameters
    assert (found.spec.seed, found.spec.scheduling.min_trials, dict(found.spec.trial_resources)) == (7, 4, {"CPU": 0.5})


async def test_trials_come_in_pages(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep()
    made = [await registry.trial(lease, number) for number in range(2)]
    request = sweeps_pb2.ListTrialsRequest(sweep_id=sweep.id, page_size=1)
    first = await registry.sweeps.ListTrials(request, timeout=TIMEOUT)
    request.page_token = first.next_page_token
    second = await registry.sweeps.ListTrials(request, timeout=TIMEOUT)
    assert [each.id for page in (first, second) for each in page.trials] == [each.id for each in made]


async def test_an_event_carries_the_trace_of_the_call_that_caused_it(registry: Any) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    request = runs_pb2.CreateRunRequest(request_id=registry.request_id(), spec=registry.spec())
    metadata = [("traceparent", f"00-{trace}-b7ad6b7169203331-01")]
    run = await registry.runs.CreateRun(request, timeout=TIMEOUT, metadata=metadata)
    listed = events_pb2.ListEventsRequest(filter=f'resource_id = "{run.id}"')
    (event, *_) = (await registry.events.ListEvents(listed, timeout=TIMEOUT)).events
    assert event.traceparent.split("-")[1] == trace


def answered(item_id: str, value: float, sample: int = 0) -> evaluations_pb2.ItemResult:
    return evaluations_pb2.ItemResult(
        item_id=item_id,
        sample_index=sample,
        outcome=evaluations_pb2.ITEM_OUTCOME_SCORED,
        metrics={"answer_correctness": value},
    )


async def record(registry: Any, lease: common_pb2.Lease, *results: evaluations_pb2.ItemResult) -> None:
    request = evaluations_pb2.RecordItemsRequest(lease=lease, results=results)
    await registry.evaluations.RecordItems(request, timeout=TIMEOUT)


async def test_a_scored_run_is_named_on_the_board_and_by_a_baseline(registry: Any) -> None:
    run = await registry.create_run(name="first try", evaluate_on=[runs_pb2.EvaluateOn(evalset="quiz")])
    trained = await registry.succeed((await registry.claim(run.id)).lease)
    (evaluation_id,) = trained.evaluation_ids
    lease = (await registry.claim(evaluation_id)).lease
    await record(registry, lease, answered("q0", 1.0), answered("q1", 0.0))
    result = jobs_pb2.EvaluationResult(model_digest=registry.digest_of("weights"), scorer_version=BUILT_IN_VERSION)
    await registry.complete(lease, common_pb2.JOB_STATE_SUCCEEDED, evaluation=result)
    board = evaluations_pb2.GetLeaderboardRequest(evalset="quiz")
    (entry,) = (await registry.evaluations.GetLeaderboard(board, timeout=TIMEOUT)).entries
    assert (entry.run_id, entry.run_display_name, entry.primary_score) == (run.id, "first try", 0.5)
    lock = models_pb2.LockBaselineRequest(
        request_id=registry.request_id(), name="best", evaluation_id=evaluation_id, note="to beat"
    )
    baseline = await registry.models.LockBaseline(lock, timeout=TIMEOUT)
    assert (baseline.run_id, baseline.note) == (run.id, "to beat")


async def test_the_next_attempt_learns_which_samples_are_recorded(registry: Any) -> None:
    trained = await registry.succeed((await registry.running())[1])
    request = evaluations_pb2.CreateEvaluationRequest(
        request_id=registry.request_id(), model=trained.model_id, evalset="quiz", samples_per_item=2
    )
    created = await registry.evaluations.CreateEvaluation(request, timeout=TIMEOUT)
    lease = (await registry.claim(created.id)).lease
    await record(registry, lease, answered("q1", 1.0, sample=1))
    await registry.release(lease, "the evaluator stops")
    recorded = (await registry.claim(created.id, "worker-2")).evaluation.recorded
    assert [(each.item_id, each.sample_index) for each in recorded] == [("q1", 1)]
