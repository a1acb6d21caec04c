"""What the demo promises, and when it says that a promise was not kept."""

from dataclasses import replace

import pytest

from tunix_rt.cli.demo import demo
from tunix_rt.cli.demo.plan import PLANS, plan_for
from tunix_rt.cli.demo.report import interval
from tunix_rt.cli.demo.result import Compared, Decision, DemoResult, Score, Swept, Trained, TrialResult, shortfalls
from tunix_rt.client.resources.runs import run_spec
from tunix_rt.errors import InvalidInput


def score(value: float) -> Score:
    return Score("eval-1", value, value - 0.1, value + 0.1, 100, 100, 1.0, {}, {"i1": (1.0, "x")})


def trained(name: str, value: float) -> Trained:
    return Trained("run-1", name, 10.0, 5.0, 0.1, "model-1", "sha256:0", score(value))


GOOD = DemoResult(
    model="preset://tiny",
    seed=0,
    base=None,
    a=trained("A", 0.2),
    b=trained("B", 0.8),
    gate_b_against_a=Decision("B", "A", "PASS", 0.6, 0.5, ""),
    gate_a_against_b=Decision("A", "B", "FAIL", -0.6, -0.7, ""),
    comparison=Compared(0.6, 0.5, 0.7, 0.001, 2, 62, 36),
    sweep=Swept("sweep-1", 30.0, [TrialResult(n, "SUCCEEDED", {}, 0.1 * n) for n in range(3)], best=2),
    question="?",
    answer="!",
    seconds=100.0,
)


def test_a_result_that_keeps_every_promise_has_no_shortfall() -> None:
    assert shortfalls(GOOD, plan_for("preset://tiny")) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"b": trained("B", 0.59)}, "primary_score 0.590"),
        ({"comparison": replace(GOOD.comparison, ci_low=-0.01)}, "exclude 0"),
        ({"gate_b_against_a": replace(GOOD.gate_b_against_a, verdict="INCONCLUSIVE")}, "gate B/A says INCONCLUSIVE"),
        ({"gate_a_against_b": replace(GOOD.gate_a_against_b, verdict="PASS")}, "gate A/B says PASS"),
        ({"sweep": replace(GOOD.sweep, trials=GOOD.sweep.trials[:2])}, "2 of 3 trials"),
        (
            {"sweep": replace(GOOD.sweep, trials=[replace(t, state="FAILED") for t in GOOD.sweep.trials])},
            "0 of 3 trials",
        ),
    ],
)
def test_each_broken_promise_is_named(change: dict[str, object], says: str) -> None:
    (sentence,) = shortfalls(replace(GOOD, **change), plan_for("preset://tiny"))  # type: ignore[arg-type]
    assert says in sentence


def test_a_model_without_a_plan_is_refused_before_anything_starts() -> None:
    with pytest.raises(InvalidInput, match="model"):
        demo(model="preset://huge")


@pytest.mark.parametrize("model", sorted(PLANS))
def test_plans_name_hyperparameters_that_the_contract_has(model: str) -> None:
    plan = plan_for(model)
    for hyperparameters in (plan.short.hyperparameters, plan.long.hyperparameters, plan.sweep.hyperparameters):
        spec = run_spec(base_model=model, hyperparameters=hyperparameters)
        assert spec.hyperparameters.max_steps == hyperparameters["max_steps"]
    assert {"learning_rate", "per_device_batch_size", "weight_decay"} == set(plan.sweep.parameters)


def test_the_drawn_interval_spans_its_cells_and_marks_the_point() -> None:
    assert interval(0.25, 0.5, 0.75) == "·" * 10 + "━" * 10 + "●" + "━" * 10 + "·" * 9
    assert interval(0.0, 0.0, 0.0) == "●" + "·" * 39
    assert interval(1.0, 1.0, 1.0) == "·" * 39 + "●"
