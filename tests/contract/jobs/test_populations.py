"""Trials of a population: one that replaces another goes on from a third one's checkpoint, once whatever crashes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tunix_rt.errors import Aborted, FailedPrecondition, InvalidInput
from tunix_rt.registry.sweeps.tables import TrialRow
from tunix_rt.v1 import common_pb2, runs_pb2, sweeps_pb2

TIMEOUT = 20
SUCCEEDED, CANCELLED = common_pb2.JOB_STATE_SUCCEEDED, common_pb2.JOB_STATE_CANCELLED
CANCELLING = common_pb2.JOB_STATE_CANCELLING
STOPPED = common_pb2.REASON_EARLY_STOPPED
RATE = sweeps_pb2.Parameter(name="learning_rate", loguniform=sweeps_pb2.LogUniform(low=1e-5, high=1e-1))


class Population:
    """Three members of a claimed sweep; the first one trains and has a checkpoint of step 20."""

    def __init__(self, registry: Any, sweep: sweeps_pb2.Sweep, lease: common_pb2.Lease) -> None:
        self.registry, self.sweep, self.lease = registry, sweep, lease
        self.members: list[sweeps_pb2.Trial] = []
        self.leases: list[common_pb2.Lease] = []

    def request(self, number: int, lease: common_pb2.Lease | None = None, **origin: Any) -> Any:
        request = sweeps_pb2.CreateTrialRequest(lease=lease or self.lease, number=number)
        request.parameters.update({"learning_rate": 0.01 * (number + 1)})
        if origin:
            given: dict[str, Any] = {
                "member": 1,
                "generation": 1,
                "parent_trial_id": self.members[0].id,
                "parent_step": 20,
            }
            request.origin.CopyFrom(sweeps_pb2.TrialOrigin(**(given | origin)))
        return request

    async def create(self, number: int, lease: common_pb2.Lease | None = None, **origin: Any) -> sweeps_pb2.Trial:
        request = self.request(number, lease, **origin)
        return await self.registry.sweeps.CreateTrial(request, timeout=TIMEOUT)

    async def save(self, member: int, step: int) -> None:
        checkpoint = runs_pb2.Checkpoint(
            step=step,
            uri=self.registry.uri(f"{member}/{step}"),
            digest=self.registry.digest_of(f"{member}/{step}"),
            size_bytes=7,
        )
        request = runs_pb2.RecordCheckpointRequest(lease=self.leases[member], checkpoint=checkpoint)
        await self.registry.runs.RecordCheckpoint(request, timeout=TIMEOUT)


@pytest.fixture
async def population(registry: Any) -> Population:
    base = registry.spec(
        hyperparameters=runs_pb2.Hyperparameters(max_steps=100, eval_steps=10, save_steps=15),
        evaluate_on=[runs_pb2.EvaluateOn(evalset="quiz")],
    )
    sweep, lease = await registry.claimed_sweep(
        base=base, parameters=[RATE], scheduler=sweeps_pb2.TRIAL_SCHEDULER_PBT, num_samples=3
    )
    made = Population(registry, sweep, lease)
    for number in range(3):
        made.members.append(await made.create(number))
        made.leases.append((await registry.claim(made.members[number].run_id, f"worker-{number}")).lease)
    await made.save(0, 20)
    return made


async def test_a_run_of_a_population_keeps_a_checkpoint_of_every_look(population: Population) -> None:
    found = (await population.registry.get_run(population.members[0].run_id)).spec
    assert population.sweep.spec.scheduling.interval_steps == 20
    assert (found.hyperparameters.save_steps, found.hyperparameters.save_total_limit) == (20, 6)
    assert not population.members[0].HasField("origin")


async def test_a_trial_takes_the_place_of_another_and_starts_from_a_third_ones_checkpoint(
    population: Population,
) -> None:
    parent, former, _ = population.members
    trial = await population.create(4, generation=1)
    assert trial.origin == sweeps_pb2.TrialOrigin(member=1, generation=1, parent_trial_id=parent.id, parent_step=20)
    assert (trial.number, trial.configuration, dict(trial.parameters)) == (4, 4, {"learning_rate": 0.05})
    claim = await population.registry.claim(trial.run_id)
    assert (claim.run.run.spec.initial_checkpoint.run_id, claim.run.initial_checkpoint.step) == (parent.run_id, 20)
    assert claim.run.run.spec.hyperparameters.learning_rate == 0.05
    replaced = (await population.registry.trials(population.sweep.id))[1]
    assert (replaced.id, replaced.state, replaced.reason) == (former.id, CANCELLING, STOPPED)
    assert replaced.message == "trial 4 takes its place, from step 20 of trial 0"
    assert not replaced.HasField("origin")


async def test_a_trial_that_replaces_another_exists_once_and_only_for_the_newest_lease(
    population: Population, refusal: Any
) -> None:
    registry = population.registry
    twice = await asyncio.gather(*(population.create(4, generation=1) for _ in range(4)))
    assert len({trial.id for trial in twice}) == 1
    await registry.end(population.leases[1], CANCELLED)
    # Its predecessor has ended since: the stored one is still the answer.
    assert await population.create(4, generation=1) == twice[0]
    await registry.reap(after_seconds=20)
    claim = await registry.claim(population.sweep.id, "tuner-2")
    trials = await registry.trials(population.sweep.id)
    assert [trial.number for trial in trials] == [0, 1, 2, 4]
    assert trials[3].origin == twice[0].origin
    assert (await refusal(population.create(7, generation=2))).kind is Aborted
    assert await population.create(4, claim.lease, generation=1, parent_step=40) == twice[0]
    assert await registry.count(TrialRow) == 4


@pytest.mark.parametrize(
    ("number", "origin", "fields"),
    [
        (5, {}, ["number"]),
        (4, {"generation": 0}, ["origin.generation"]),
        (4, {"member": 3, "parent_step": 0}, ["origin.member", "origin.parent_step"]),
        (4, {"member": -1, "parent_trial_id": ""}, ["origin.member", "origin.parent_trial_id"]),
        (5, {"generation": 1}, ["number"]),
        (4, {"parent_trial_id": "trial-of-nobody"}, ["origin.parent_trial_id"]),
        # Generation 1 of that member has not been.
        (7, {"generation": 2}, ["origin.generation"]),
    ],
)
async def test_an_origin_that_does_not_fit_is_refused_by_field(
    population: Population, refusal: Any, number: int, origin: dict[str, Any], fields: list[str]
) -> None:
    refused = await refusal(population.create(number, **origin))
    assert (refused.kind, refused.fields) == (InvalidInput, fields)


async def test_only_trials_of_the_same_sweep_are_parents_and_none_of_itself(
    population: Population, refusal: Any
) -> None:
    _, lease = await population.registry.claimed_sweep()
    other = await population.registry.trial(lease, 0)
    for parent in (other.id, population.members[1].id):
        refused = await refusal(population.create(4, parent_trial_id=parent))
        assert (refused.kind, refused.fields) == (InvalidInput, ["origin.parent_trial_id"])
    request = sweeps_pb2.CreateTrialRequest(lease=lease, number=1, origin=population.request(4, member=1).origin)
    request.parameters.update({"learning_rate": 0.01, "per_device_batch_size": 4})
    refused = await refusal(population.registry.sweeps.CreateTrial(request, timeout=TIMEOUT))
    assert (refused.kind, refused.fields) == (InvalidInput, ["origin"])


async def test_a_checkpoint_that_is_not_there_yet_can_be_waited_for(population: Population, refusal: Any) -> None:
    refused = await refusal(population.create(4, parent_step=40))
    assert refused.kind is FailedPrecondition
    assert "trial 0 has no checkpoint of step 40" in refused.text
    assert await population.registry.count(TrialRow) == 3
    await population.save(0, 40)
    assert (await population.create(4, parent_step=40)).origin.parent_step == 40


async def test_a_member_that_has_ended_is_not_replaced(population: Population, refusal: Any) -> None:
    await population.registry.end(population.leases[1], common_pb2.JOB_STATE_FAILED, reason=common_pb2.REASON_DIVERGED)
    refused = await refusal(population.create(4, generation=1))
    assert refused.kind is FailedPrecondition
    assert "there is nothing to replace" in refused.text


async def test_a_member_whose_run_waits_for_its_score_is_not_replaced(population: Population, refusal: Any) -> None:
    await population.registry.succeed(population.leases[1])
    refused = await refusal(population.create(4, generation=1))
    assert refused.kind is FailedPrecondition
    assert "its run SUCCEEDED: there is nothing to replace" in refused.text


async def test_a_member_that_a_person_cancels_does_not_come_back(population: Population, refusal: Any) -> None:
    run_id = population.members[1].run_id
    await population.registry.runs.CancelRun(
        runs_pb2.CancelRunRequest(request_id=population.registry.request_id(), id=run_id), timeout=TIMEOUT
    )
    refused = await refusal(population.create(4, generation=1))
    assert refused.kind is FailedPrecondition
    assert "its run CANCELLING: there is nothing to replace" in refused.text


async def test_a_population_is_complete_when_every_member_has_been(registry: Any, refusal: Any) -> None:
    base = registry.spec(hyperparameters=runs_pb2.Hyperparameters(eval_steps=10))
    sweep, lease = await registry.claimed_sweep(
        base=base,
        parameters=[RATE],
        scheduler=sweeps_pb2.TRIAL_SCHEDULER_PBT,
        num_samples=2,
        objective=sweeps_pb2.Objective(metric="eval_loss", mode=sweeps_pb2.OBJECTIVE_MODE_MIN),
    )
    population = Population(registry, sweep, lease)
    assert sweep.trial_count == 2
    population.members.append(await population.create(0))
    population.leases.append((await registry.claim(population.members[0].run_id)).lease)
    refused = await refusal(registry.end_sweep(lease, SUCCEEDED))
    assert refused.kind is FailedPrecondition
    population.members.append(await population.create(1))
    population.leases.append((await registry.claim(population.members[1].run_id, "worker-2")).lease)
    await population.save(1, 20)
    third = await population.create(2, member=0, parent_trial_id=population.members[1].id)
    await registry.end(population.leases[0], CANCELLED)
    await registry.report(population.leases[1], "eval_loss", {20: 0.5})
    await registry.succeed(population.leases[1])
    last = (await registry.claim(third.run_id)).lease
    await registry.report(last, "eval_loss", {30: 0.25})
    await registry.succeed(last, "others")
    progress = (await registry.get_sweep(sweep.id)).progress
    # Members, whose replaced trials do not count.
    assert (progress.done, progress.total, progress.unit) == (2, 2, "trials")
    ended = await registry.end_sweep(lease, SUCCEEDED)
    assert (ended.state, ended.best_trial_id, ended.n_trials) == (SUCCEEDED, third.id, 3)
    assert (ended.n_succeeded, ended.n_stopped, ended.n_failed) == (2, 1, 0)
    # Both ended at step 100, and steps 1 to 20 of the last were the parent's.
    assert [trial.steps for trial in await registry.trials(sweep.id)] == [0, 100, 80]
    results = await registry.sweeps.GetSweepResults(sweeps_pb2.GetSweepResultsRequest(id=sweep.id), timeout=TIMEOUT)
    assert results.steps == 180


async def test_a_population_does_not_grow(population: Population, refusal: Any) -> None:
    request = sweeps_pb2.ExtendSweepRequest(
        request_id=population.registry.request_id(), id=population.sweep.id, num_samples=5
    )
    refused = await refusal(population.registry.sweeps.ExtendSweep(request, timeout=TIMEOUT))
    assert (refused.kind, refused.fields) == (InvalidInput, ["num_samples"])
