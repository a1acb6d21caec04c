"""Which parameters matter, on objectives whose answer is known."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tunix_rt.errors import FailedPrecondition, InvalidInput
from tunix_rt.search_space.space import Parameter
from tunix_rt.tuner.importance import Importance, ScoredTrial, importance
from tunix_rt.tuner.tuning_servicer import TuningServicer
from tunix_rt.v1 import sweeps_pb2 as pb
from tunix_rt.v1 import tuning_pb2

RATE = Parameter("learning_rate", "loguniform", arguments={"low": 1e-5, "high": 1e-2})
DECAY = Parameter("weight_decay", "uniform", arguments={"low": 0.0, "high": 0.1})
BATCH = Parameter("per_device_batch_size", "choice", values=(4, 8, 16))
WARMUP = Parameter("warmup_steps", "randint", arguments={"low": 0, "high": 11})
SPACE = (RATE, DECAY, BATCH, WARMUP)


def drawn(count: int, objective: Any, seed: int = 0) -> list[ScoredTrial]:
    """Trials drawn evenly from `SPACE`, with ``objective(parameters)``."""
    dice = random.Random(seed)
    trials = []
    for number in range(count):
        parameters = {
            "learning_rate": 10 ** dice.uniform(-5, -2),
            "weight_decay": dice.uniform(0, 0.1),
            "per_device_batch_size": dice.choice((4.0, 8.0, 16.0)),
            "warmup_steps": float(dice.randrange(11)),
        }
        trials.append(ScoredTrial(number, parameters, objective(parameters)))
    return trials


def first(dimensions: Sequence[Parameter], trials: Sequence[ScoredTrial], mode: Any = "MAX") -> Importance:
    return importance(dimensions, trials, mode)[0]


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("learning_rate", lambda p: -((p["learning_rate"] - 1e-3) ** 2)),
        ("weight_decay", lambda p: p["weight_decay"]),
        ("per_device_batch_size", lambda p: 1.0 if p["per_device_batch_size"] == 8 else 0.0),
        ("warmup_steps", lambda p: -abs(p["warmup_steps"] - 5)),
    ],
)
def test_the_only_parameter_on_which_the_objective_depends_has_the_greatest_share(name: str, objective: Any) -> None:
    found = first(SPACE, drawn(60, objective))
    assert found.name == name
    assert found.share > 0.6


def test_the_mode_says_which_trials_are_good() -> None:
    """With batches of 8 all is lost, the more the longer the warm-up; else decay decides."""

    def objective(parameters: Mapping[str, float]) -> float:
        lost = parameters["per_device_batch_size"] == 8
        return -100 - parameters["warmup_steps"] if lost else parameters["weight_decay"]

    trials = drawn(90, objective)
    assert first(SPACE, trials, "MAX").name == "weight_decay"
    assert first(SPACE, trials, "MIN").name == "warmup_steps"


def test_shares_sum_to_one_and_come_in_their_order() -> None:
    found = importance(SPACE, drawn(30, lambda p: p["weight_decay"] + p["warmup_steps"]), "MAX")
    assert {part.name for part in found} == {dimension.name for dimension in SPACE}
    assert sum(part.share for part in found) == pytest.approx(1, abs=1e-12)
    shares = [part.share for part in found]
    assert shares == sorted(shares, reverse=True)
    assert all(share >= 0 for share in shares)


def test_the_order_of_the_trials_changes_nothing() -> None:
    trials = drawn(25, lambda p: round(p["warmup_steps"] / 5))
    expected = importance(SPACE, trials, "MAX")
    for seed in range(5):
        shuffled = list(trials)
        random.Random(seed).shuffle(shuffled)
        assert importance(SPACE, shuffled, "MAX") == expected


def test_a_parameter_that_only_some_trials_have_is_judged_among_those() -> None:
    """Rank decides; alpha exists with rank 16 alone, where it decides nothing; dropout exists there, too, and does."""
    rank = Parameter("lora.rank", "choice", values=(4, 16))
    alpha = Parameter("lora.alpha", "uniform", arguments={"low": 8.0, "high": 64.0})
    dropout = Parameter("lora.dropout", "uniform", arguments={"low": 0.0, "high": 0.5})
    dice = random.Random(3)
    trials = []
    for number in range(200):
        parameters: dict[str, float] = {"lora.rank": dice.choice((4, 16))}
        score = 0.1 * dice.random()
        if parameters["lora.rank"] == 16:
            parameters |= {"lora.alpha": dice.uniform(8, 64), "lora.dropout": dice.uniform(0, 0.5)}
            score = 0.5 + parameters["lora.dropout"]
        trials.append(ScoredTrial(number, parameters, score))
    shares = {part.name: part.share for part in importance((rank, alpha, dropout), trials, "MAX")}
    assert shares["lora.dropout"] > 5 * shares["lora.alpha"]
    assert shares["lora.rank"] > 5 * shares["lora.alpha"]


def test_a_parameter_that_no_trial_has_has_no_share() -> None:
    unused = Parameter("lora.alpha", "normal", arguments={"mean": 16.0, "stddev": 4.0})
    found = importance((*SPACE, unused), drawn(20, lambda p: p["weight_decay"]), "MAX")
    assert found[-1] == Importance("lora.alpha", 0.0)


def test_values_outside_their_domain_count_too() -> None:
    """A normal has no ends, and population-based training moves values beyond them."""
    mean = Parameter("weight_decay", "normal", arguments={"mean": 0.0, "stddev": 0.01})
    batch = Parameter("per_device_batch_size", "choice", values=(4,))
    rate = Parameter("learning_rate", "loguniform", arguments={"low": 1e-3, "high": 2e-3})
    warmup = Parameter("warmup_steps", "quniform", arguments={"low": 3, "high": 4, "q": 1})
    found = first((mean, batch, rate, warmup), drawn(60, lambda p: p["weight_decay"]))
    assert found.name == "weight_decay"


def test_when_every_trial_scores_the_same_the_shares_are_equal() -> None:
    found = importance(SPACE, drawn(12, lambda p: 0.5), "MAX")
    assert [part.share for part in found] == [0.25] * 4


@pytest.mark.parametrize("count", [0, 3])
def test_fewer_than_four_objectives_say_nothing(count: int) -> None:
    trials = [*drawn(count, lambda p: 0.5), ScoredTrial(9, {}, float("nan"))]
    with pytest.raises(FailedPrecondition, match=f"at least 4 trials with an objective; {count} of {count + 1}"):
        importance(SPACE, trials, "MAX")


def test_four_are_enough() -> None:
    assert len(importance(SPACE, drawn(4, lambda p: p["weight_decay"]), "MIN")) == 4


async def test_the_service_answers_for_the_trials_that_have_an_objective() -> None:
    spec = pb.SweepSpec(
        parameters=[
            pb.Parameter(name="learning_rate", uniform=pb.Uniform(low=0.01, high=0.09)),
            pb.Parameter(name="weight_decay", uniform=pb.Uniform(low=0, high=0.1)),
        ],
        objective=pb.Objective(metric="loss", mode=pb.OBJECTIVE_MODE_MIN),
    )
    request = tuning_pb2.ComputeImportanceRequest(spec=spec)
    dice = random.Random(1)
    for number in range(40):
        trial = request.trials.add(number=number)
        trial.parameters.update({"learning_rate": dice.uniform(0.01, 0.09), "weight_decay": dice.uniform(0, 0.1)})
        if number % 2:
            trial.objective = -trial.parameters["learning_rate"]
    context: Any = None
    answer = await TuningServicer(None).ComputeImportance(request, context)
    assert answer.n_trials == 20
    assert answer.parameters[0].name == "learning_rate"
    assert sum(part.importance for part in answer.parameters) == pytest.approx(1)
    del request.trials[6:]
    with pytest.raises(FailedPrecondition, match="; 3 of 3 have one"):
        await TuningServicer(None).ComputeImportance(request, context)
    request.spec.parameters[0].uniform.high = 0
    with pytest.raises(InvalidInput, match="uniform"):
        await TuningServicer(None).ComputeImportance(request, context)
