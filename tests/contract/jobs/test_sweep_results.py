"""What a sweep has found: means, intervals, differences to the best, and whether there is a winner."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats
from sqlmodel import col, select

from tunix_rt.errors import NotFound
from tunix_rt.quality.paired import tango_interval
from tunix_rt.registry.evalsets.tables import EvalSetItemRow
from tunix_rt.registry.evaluations.tables import EvaluationRow, ItemResultRow
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.v1 import common_pb2, runs_pb2, sweeps_pb2

TIMEOUT = 20
LOSS = sweeps_pb2.Objective(metric="loss", mode=sweeps_pb2.OBJECTIVE_MODE_MIN)


async def results(registry: Any, sweep_id: str) -> sweeps_pb2.SweepResults:
    return await registry.sweeps.GetSweepResults(sweeps_pb2.GetSweepResultsRequest(id=sweep_id), timeout=TIMEOUT)


async def more_items(registry: Any, count: int) -> None:
    """The quiz has so many items."""

    def add(session: Any) -> None:
        first = session.scalars(select(EvalSetItemRow).where(col(EvalSetItemRow.position) == 0)).one()
        for number in range(2, count):
            document = first.document | {"id": f"q{number}"}
            session.add(
                EvalSetItemRow(
                    evalset_id=first.evalset_id,
                    item_id=f"q{number}",
                    position=number,
                    answer_type="text",
                    document=document,
                )
            )

    await registry.database.run_write(add)


async def answered(registry: Any, trial: sweeps_pb2.Trial, right: set[int], count: int) -> str:
    """Carry the trial out, right on these items of the quiz; the id of its evaluation."""
    run = await registry.train(trial)
    evaluation_id = run.evaluation_ids[0]

    def record(session: Any) -> None:
        for number in range(count):
            session.add(
                ItemResultRow(
                    evaluation_id=evaluation_id,
                    item_id=f"q{number}",
                    sample_index=0,
                    outcome="SCORED",
                    answer_correctness=float(number in right),
                    create_time=utc_now(),
                )
            )

    await registry.database.run_write(record)
    share = len(right) / count
    peer = stats.binomtest(len(right), count).proportion_ci(0.95, method="wilson")
    await registry.score(run, share, interval=(peer.low, peer.high))
    return evaluation_id


async def ended_with(registry: Any, lease: common_pb2.Lease, number: int, loss: float, **parameters: Any) -> None:
    """A trial whose run reports that loss and succeeds."""
    trial = await registry.trial(lease, number, **parameters)
    run = await registry.claim(trial.run_id)
    await registry.report(run.lease, "loss", {10: loss})
    await registry.succeed(run.lease, content=str(number))


async def test_single_runs_are_compared_over_the_same_items(registry: Any) -> None:
    await more_items(registry, 40)
    sweep, lease = await registry.claimed_sweep(num_samples=4)
    trials = [await registry.trial(lease, number, learning_rate=0.01 + number / 100) for number in range(4)]
    rights = [set(range(28)), set(range(2, 32)), set(range(3))]
    for trial, right in zip(trials[:3], rights, strict=True):
        await answered(registry, trial, right, 40)
    found = await results(registry, sweep.id)
    assert [each.index for each in found.configurations] == [1, 0, 2, 3]
    best, near, far, unfinished = found.configurations
    assert (best.objective, near.objective, far.objective) == (0.75, 0.7, 0.075)
    assert found.best_trial_id == trials[1].id
    assert list(best.trial_ids) == [trials[1].id]
    assert best.parameters["learning_rate"] == 0.02
    assert (best.HasField("difference"), best.tied_with_best) == (False, False)
    wilson = stats.binomtest(30, 40).proportion_ci(0.95, method="wilson")
    assert (best.ci_low, best.ci_high) == (pytest.approx(wilson.low), pytest.approx(wilson.high))
    # Against the best, 4 items of 40 are lost and 2 are won.
    assert (near.difference, near.tied_with_best) == (pytest.approx(-0.05), True)
    assert (near.difference_low, near.difference_high) == pytest.approx(tango_interval(4, 2, 40))
    # What lies apart by its own interval is not compared item by item.
    assert (far.difference, far.HasField("difference_low"), far.tied_with_best) == (pytest.approx(-0.675), False, False)
    assert (unfinished.HasField("objective"), unfinished.HasField("difference")) == (False, False)
    assert found.n_tied == 1
    assert found.statement == "1 configuration cannot be told from the best (95 %): there is no single winner"


async def test_a_best_that_stands_apart_is_the_winner(registry: Any) -> None:
    await more_items(registry, 40)
    sweep, lease = await registry.claimed_sweep(num_samples=3)
    trials = [await registry.trial(lease, number) for number in range(3)]
    assert (await results(registry, sweep.id)).statement == "no configuration has an objective yet"
    await answered(registry, trials[0], set(range(20, 22)), 40)
    alone = await results(registry, sweep.id)
    assert (alone.best_trial_id, alone.n_tied) == (trials[0].id, 0)
    assert alone.statement == "only one configuration has an objective: there is nothing to tell it from"
    # Their own intervals overlap; but over the same items one is right wherever the other is, and on 9 more.
    await answered(registry, trials[1], set(range(24)), 40)
    await answered(registry, trials[2], set(range(33)), 40)
    found = await results(registry, sweep.id)
    near = found.configurations[1]
    assert found.configurations[0].ci_low < near.ci_high
    assert near.difference_high < 0
    assert (found.n_tied, found.statement) == (0, "the best is better than every other one (95 %)")


async def test_evaluations_of_another_scorer_are_not_compared(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(num_samples=2)
    trials = [await registry.trial(lease, number) for number in range(2)]
    await answered(registry, trials[0], {0}, 2)
    other = await answered(registry, trials[1], {0, 1}, 2)

    def of_another(session: Any) -> None:
        session.get_one(EvaluationRow, other).scorer_version = "another"

    await registry.database.run_write(of_another)
    found = await results(registry, sweep.id)
    assert not found.configurations[1].HasField("difference_low")
    assert found.statement.startswith("one run of each, and no interval")


async def test_repeats_are_compared_over_their_seeds(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(base=registry.spec(), objective=LOSS, num_samples=3, repeats=3)
    losses = [[0.50, 0.62, 0.55], [0.48, 0.61, 0.54], [0.90, 1.05, 0.99]]
    for number in range(9):
        rate = 0.01 * (1 + number // 3)
        await ended_with(registry, lease, number, losses[number // 3][number % 3], learning_rate=rate)
    found = await results(registry, sweep.id)
    best, near, far = found.configurations
    assert [each.index for each in found.configurations] == [1, 0, 2]
    assert found.best_trial_id == best.trial_ids[0]
    assert [each.n_succeeded for each in found.configurations] == [3, 3, 3]
    for each, values in ((best, losses[1]), (near, losses[0]), (far, losses[2])):
        peer = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert each.objective == pytest.approx(sum(values) / 3)
        assert (each.ci_low, each.ci_high) == (pytest.approx(peer.low), pytest.approx(peer.high))
    for each, values in ((near, losses[0]), (far, losses[2])):
        peer = stats.ttest_rel(values, losses[1]).confidence_interval(0.95)
        assert each.difference == pytest.approx(sum(values) / 3 - sum(losses[1]) / 3)
        assert (each.difference_low, each.difference_high) == (pytest.approx(peer.low), pytest.approx(peer.high))
    # 0.02, 0.01, 0.01: less than twice its standard error of t with 2 degrees of freedom.
    assert (near.tied_with_best, far.tied_with_best) == (True, False)
    assert (found.n_tied, found.steps) == (1, 900)


async def test_a_repeat_that_failed_is_left_out_of_both_sides(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(base=registry.spec(), objective=LOSS, num_samples=2, repeats=3)
    for number, loss in ((0, 0.5), (1, 0.6), (3, 0.7), (5, 0.9)):
        await ended_with(registry, lease, number, loss)
    broken = await registry.trial(lease, 2)
    run = await registry.claim(broken.run_id)
    await registry.end(run.lease, common_pb2.JOB_STATE_FAILED, reason=common_pb2.REASON_DIVERGED)
    stopped = await registry.trial(lease, 4)
    await registry.cancel(stopped.run_id, reason=common_pb2.REASON_EARLY_STOPPED)
    found = await results(registry, sweep.id)
    best, other = found.configurations
    assert (best.objective, best.n_succeeded, best.n_failed, best.n_stopped) == (pytest.approx(0.55), 2, 1, 0)
    assert (other.objective, other.n_succeeded, other.n_failed, other.n_stopped) == (pytest.approx(0.8), 2, 0, 1)
    # Only the first repeat succeeded in both.
    assert (other.difference, other.HasField("difference_low")) == (pytest.approx(0.25), False)
    assert found.statement.startswith("1 configuration has too few repeats in common with the best")


async def test_single_runs_of_a_metric_have_no_interval_and_equal_ones_are_a_tie(registry: Any) -> None:
    sweep, lease = await registry.claimed_sweep(base=registry.spec(), objective=LOSS, num_samples=3)
    await ended_with(registry, lease, 0, 0.5)
    await ended_with(registry, lease, 1, 0.4)
    found = await results(registry, sweep.id)
    assert (found.n_tied, found.configurations[1].difference) == (0, pytest.approx(0.1))
    assert found.statement == (
        "one run of each, and no interval to judge them by: repeats would tell whether the best is better"
    )
    assert not found.configurations[0].HasField("ci_low")
    await ended_with(registry, lease, 2, 0.4)
    found = await results(registry, sweep.id)
    # The first of two that are alike stands first.
    assert [each.index for each in found.configurations] == [1, 2, 0]
    assert (found.n_tied, found.configurations[1].tied_with_best) == (1, True)


async def test_an_empty_sweep_has_empty_results_and_another_none(registry: Any, refusal: Any) -> None:
    base = registry.spec(evaluate_on=[runs_pb2.EvaluateOn(evalset="quiz")])
    sweep = await registry.create_sweep(base=base)
    found = await results(registry, sweep.id)
    assert (found.sweep, list(found.configurations), found.best_trial_id, found.steps) == (sweep, [], "", 0)
    assert (await refusal(results(registry, "sweep-none"))).kind is NotFound
