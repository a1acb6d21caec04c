"""Python arguments to messages: every misfit is named."""

from __future__ import annotations

from typing import Any

import pytest

from tunix_rt.client.arguments import to_message
from tunix_rt.client.resources.runs import Run, run_spec
from tunix_rt.client.sweep_specs import sweep_spec
from tunix_rt.errors import InvalidInput
from tunix_rt.v1 import runs_pb2, sweeps_pb2


def violations_of(spec: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        to_message(runs_pb2.RunSpec, spec, "spec")
    return {violation.field: violation.description for violation in caught.value.violations}


def test_a_whole_spec_is_converted_with_nested_lists_and_presence() -> None:
    spec = run_spec(
        base_model="preset://tiny",
        dataset_id="ds-1",
        hyperparameters={"learning_rate": 1, "lora": {"rank": 8, "target_modules": ["q", "v"]}, "max_steps": 5},
        evaluate_on=["arith_v1", {"evalset": "eval_v2", "generation": {"temperature": 0, "stop": ["\n"]}}],
    )
    assert spec.hyperparameters.learning_rate == 1.0
    assert list(spec.hyperparameters.lora.target_modules) == ["q", "v"]
    assert spec.hyperparameters.WhichOneof("duration") == "max_steps"
    assert not spec.hyperparameters.HasField("seed")
    assert [part.evalset for part in spec.evaluate_on] == ["arith_v1", "eval_v2"]
    assert spec.evaluate_on[1].generation.HasField("temperature")
    assert not spec.evaluate_on[0].HasField("generation")


def test_arguments_are_laid_over_a_spec_and_lists_replace() -> None:
    base = {"base_model": "a", "hyperparameters": {"learning_rate": 0.1, "seed": 3}, "evaluate_on": [{"evalset": "x"}]}
    spec = run_spec(base, base_model="b", hyperparameters={"learning_rate": 0.2}, evaluate_on=["y"])
    assert spec.base_model == "b"
    assert (spec.hyperparameters.learning_rate, spec.hyperparameters.seed) == (0.2, 3)
    assert [part.evalset for part in spec.evaluate_on] == ["y"]


def test_a_message_is_taken_as_it_is_and_not_shared() -> None:
    given = runs_pb2.RunSpec(base_model="a")
    spec = run_spec(given, pool="gpu")
    assert (spec.base_model, spec.pool, given.pool) == ("a", "gpu", "")


def test_the_spec_of_a_run_that_was_read_is_taken_as_it_is() -> None:
    read = Run[Any](
        runs_pb2.Run(spec=runs_pb2.RunSpec(base_model="a", hyperparameters=runs_pb2.Hyperparameters(seed=3)))
    )
    spec = run_spec(read.spec, hyperparameters={"max_steps": 7})
    assert (spec.base_model, spec.hyperparameters.seed, spec.hyperparameters.max_steps) == ("a", 3, 7)
    assert run_spec(hyperparameters=read.spec.hyperparameters).hyperparameters.seed == 3
    assert not read.spec.proto.hyperparameters.HasField("max_steps")


def test_every_misfit_is_named_at_once() -> None:
    found = violations_of(
        {
            "base_modle": "x",
            "dataset_id": 7,
            "max_attempts": 2**31,
            "deadline_seconds": 1.5,
            "hyperparameters": {"learning_rate": "fast", "packing": 1, "max_steps": True, "lora": [1]},
            "evaluate_on": [{"evalset": "a"}, {"evalste": "b"}, 3],
        }
    )
    assert sorted(found) == [
        "spec.base_modle",
        "spec.dataset_id",
        "spec.deadline_seconds",
        "spec.evaluate_on[1].evalste",
        "spec.evaluate_on[2]",
        "spec.hyperparameters.learning_rate",
        "spec.hyperparameters.lora",
        "spec.hyperparameters.max_steps",
        "spec.hyperparameters.packing",
        "spec.max_attempts",
    ]
    assert "base_model" in found["spec.base_modle"]
    assert found["spec.dataset_id"] == "must be text, not 7"
    assert found["spec.hyperparameters.learning_rate"] == "must be a number, not 'fast'"


def test_fields_of_which_one_is_set_are_not_set_together() -> None:
    found = violations_of({"hyperparameters": {"max_steps": 3, "num_epochs": 1.0}})
    assert found == {"spec.hyperparameters.num_epochs": "set only one of max_steps and num_epochs"}
    assert run_spec({"hyperparameters": {"max_steps": 3, "num_epochs": None}}).hyperparameters.max_steps == 3
    # What is laid over a spec replaces its duration.
    over = run_spec({"hyperparameters": {"max_steps": 3}}, hyperparameters={"num_epochs": 1.0})
    assert over.hyperparameters.WhichOneof("duration") == "num_epochs"


def test_a_list_where_one_is_due_must_be_a_list() -> None:
    assert violations_of({"evaluate_on": {"evalset": "a"}}) == {"spec.evaluate_on": "must be a list"}
    assert violations_of({"evaluate_on": "arith_v1"}) == {"spec.evaluate_on": "must be a list"}


def test_enums_are_given_by_short_name_in_any_case() -> None:
    for name in ("random", "RANDOM", "SEARCH_ALGORITHM_RANDOM", 1):
        assert sweep_spec(algorithm=name).algorithm == sweeps_pb2.SEARCH_ALGORITHM_RANDOM
    assert sweep_spec(scheduler="median-stopping").scheduler == sweeps_pb2.TRIAL_SCHEDULER_MEDIAN_STOPPING
    with pytest.raises(
        InvalidInput, match=r"spec\.algorithm: unknown value 'bayes'; expected one of random, grid, tpe"
    ):
        sweep_spec(algorithm="bayes")


def test_search_spaces_are_written_as_mappings() -> None:
    spec = sweep_spec(
        parameters={
            "learning_rate": {"loguniform": {"low": 1e-5, "high": 1e-3}},
            "per_device_batch_size": [8, 16],
            "packing": {"grid": [True, False]},
        },
        num_samples=3,
    )
    rate, batch, packing = spec.parameters
    assert (rate.name, rate.loguniform.low, rate.loguniform.high) == ("learning_rate", 1e-5, 1e-3)
    assert [value.number_value for value in batch.choice.values] == [8, 16]
    assert [value.bool_value for value in packing.grid.values] == [True, False]
    assert spec.num_samples == 3


def test_a_search_space_in_a_spec_file_may_be_a_mapping_too() -> None:
    spec = sweep_spec({"parameters": {"seed": [1, 2]}, "num_samples": 2}, num_samples=5)
    assert spec.parameters[0].name == "seed"
    assert spec.num_samples == 5


def test_a_parameter_may_exist_only_under_a_condition() -> None:
    spec = sweep_spec(
        parameters={
            "lora.rank": [4, 8, 16],
            "lora.alpha": {"uniform": {"low": 8, "high": 64}, "when": {"lora.rank": [8, 16]}},
        }
    )
    rank, alpha = spec.parameters
    assert not rank.HasField("when")
    assert alpha.uniform.high == 64
    assert alpha.when.parameter == "lora.rank"
    assert [value.number_value for value in alpha.when.values] == [8, 16]


@pytest.mark.parametrize("when", ["lora.rank", {"lora.rank": 8}, {"lora.rank": "8"}, {}, {"a": [1], "b": [2]}])
def test_a_condition_of_another_form_is_named(when: Any) -> None:
    with pytest.raises(InvalidInput, match=r"must name one parameter and its values") as caught:
        sweep_spec(parameters={"lora.alpha": {"uniform": {"low": 8, "high": 64}, "when": when}})
    assert [violation.field for violation in caught.value.violations] == ["parameters.lora.alpha.when"]


def test_settings_of_search_and_schedule_are_laid_over_a_spec_field_by_field() -> None:
    spec = sweep_spec(
        {"scheduling": {"metric": "loss", "grace_steps": 3}, "pools": ["a"], "trial_resources": {"CPU": 1}},
        scheduling={"grace_steps": 5, "reduction_factor": 2},
        tpe={"startup_trials": 4, "multivariate": False},
        repeats=3,
        pools=["b", "c"],
        trial_resources={"memory": 2.5},
    )
    assert (spec.scheduling.metric, spec.scheduling.grace_steps, spec.scheduling.reduction_factor) == ("loss", 5, 2.0)
    assert (spec.tpe.startup_trials, spec.tpe.HasField("multivariate"), spec.tpe.multivariate) == (4, True, False)
    assert (spec.repeats, list(spec.pools), dict(spec.trial_resources)) == (3, ["b", "c"], {"CPU": 1.0, "memory": 2.5})


def test_bad_domains_are_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        sweep_spec(parameters={"a": "8,16", "b": {"uniform": {"low": 0}, "grid": [1]}})
    assert [violation.field for violation in caught.value.violations] == ["parameters.a", "parameters.b"]
    with pytest.raises(InvalidInput, match=r"spec\.parameters\[0\]\.gaussian"):
        sweep_spec(parameters={"a": {"gaussian": {"mean": 0}}})
