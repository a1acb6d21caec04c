"""What users write: spec files, settings, search spaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunix_rt.cli import specs
from tunix_rt.errors import InvalidInput


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.json", '{"base_model": "preset://tiny", "hyperparameters": {"learning_rate": 0.003}}'),
        ("s.toml", 'base_model = "preset://tiny"\n[hyperparameters]\nlearning_rate = 0.003\n'),
        ("s.yaml", "base_model: preset://tiny\nhyperparameters:\n  learning_rate: 0.003\n"),
    ],
)
def test_a_spec_reads_the_same_from_every_format(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    expected = {"base_model": "preset://tiny", "hyperparameters": {"learning_rate": 0.003}}
    assert specs.read_spec(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-2e+3", -2000.0),
        ("1.5e-4", 1.5e-4),
        (".5", 0.5),
        ("3.", 3.0),
        (".inf", float("inf")),
        ("3", 3),
        ("1e-4x", "1e-4x"),
        ("e4", "e4"),
        ("'1e-4'", "1e-4"),
        ("true", True),
    ],
)
def test_yaml_numbers_are_those_of_yaml_1_2(text: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        f"base_model: preset://tiny\nhyperparameters: {{learning_rate: {text}, max_steps: 3}}\n"
    )
    found = specs.read_spec(tmp_path / "s.yaml")["hyperparameters"]
    assert (found, type(found["learning_rate"])) == ({"learning_rate": value, "max_steps": 3}, type(value))


@pytest.mark.parametrize(("name", "text"), [("s.json", "{"), ("s.toml", "= 3"), ("s.yml", "a: [1"), ("s.json", "[1]")])
def test_a_spec_that_cannot_be_read_names_its_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput) as caught:
        specs.read_spec(tmp_path / name)
    assert caught.value.violations[0].field == str(tmp_path / name)


def test_settings_are_json_where_they_can_be_and_may_be_nested() -> None:
    pairs = [
        "learning_rate=1e-3",
        "packing=true",
        "dtype=bfloat16",
        "lora.rank=8",
        'lora.target_modules=["q"]',
        "x=a=b",
    ]
    assert specs.parse_settings(pairs, "--set") == {
        "learning_rate": 0.001,
        "packing": True,
        "dtype": "bfloat16",
        "lora": {"rank": 8, "target_modules": ["q"]},
        "x": "a=b",
    }


def test_every_bad_setting_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        specs.parse_settings(["learning_rate", "=3", "a=1"], "--set")
    assert [v.description for v in caught.value.violations] == [
        "'learning_rate' is not NAME=VALUE",
        "'=3' is not NAME=VALUE",
    ]


def test_search_spaces() -> None:
    pairs = [
        "learning_rate=loguniform(1e-4, 1e-2)",
        "per_device_batch_size=8,16,32",
        "weight_decay=grid(0,0.1)",
        "seed=randint(0,9)",
        "warmup_steps=quniform(0,100,10)",
        "lr_scheduler_type=linear,cosine",
        "max_grad_norm=0.5",
    ]
    assert specs.parse_parameters(pairs) == {
        "learning_rate": {"loguniform": {"low": 1e-4, "high": 1e-2}},
        "per_device_batch_size": [8, 16, 32],
        "weight_decay": {"grid": [0, 0.1]},
        "seed": {"randint": {"low": 0, "high": 9}},
        "warmup_steps": {"quniform": {"low": 0, "high": 100, "q": 10}},
        "lr_scheduler_type": ["linear", "cosine"],
        "max_grad_norm": [0.5],
    }


def test_bad_search_spaces_are_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        specs.parse_parameters(["a", "b=gauss(0,1)", "c=uniform(1)"])
    text = str(caught.value)
    assert "'a' is not NAME=DOMAIN" in text
    assert "'gauss' is none of choice, grid, uniform" in text
    assert "uniform takes (low, high)" in text


def test_a_parameter_may_depend_on_another_one() -> None:
    pairs = [
        "lora.rank=4,8,16",
        "lora.alpha=uniform(8,64) when lora.rank in 8,16",
        "lora.dropout=0,0.1 when lora.rank in 16",
        "warmup_steps=5,10 when lr_scheduler_type in linear, cosine",
    ]
    assert specs.parse_parameters(pairs) == {
        "lora.rank": [4, 8, 16],
        "lora.alpha": {"uniform": {"low": 8, "high": 64}, "when": {"lora.rank": [8, 16]}},
        "lora.dropout": {"choice": [0, 0.1], "when": {"lora.rank": [16]}},
        "warmup_steps": {"choice": [5, 10], "when": {"lr_scheduler_type": ["linear", "cosine"]}},
    }


@pytest.mark.parametrize("rest", ["lora.rank", "lora.rank = 8", "lora.rank in", "in 8,16", "lora.rank in  "])
def test_a_condition_that_cannot_be_read_is_shown_with_its_form(rest: str) -> None:
    with pytest.raises(InvalidInput, match="is not 'when PARAMETER in VALUE,VALUE'") as caught:
        specs.parse_parameters([f"lora.alpha=uniform(8,64) when {rest}"])
    assert [violation.field for violation in caught.value.violations] == ["--param lora.alpha"]


def test_a_parameter_that_is_given_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'seed' is given twice"):
        specs.parse_parameters(["seed=1,2", "seed=3"])


def test_labels_beside_a_spec_are_split_from_it() -> None:
    document = {"base_model": "preset://tiny", "display_name": "best", "tags": {"team": "a"}}
    spec, labels = specs.split_labels(document)
    assert spec == {"base_model": "preset://tiny"}
    assert (labels.display_name, labels.tags) == ("best", {"team": "a"})
    assert specs.split_labels({}) == ({}, specs.Labels())


def test_labels_that_are_no_text_are_all_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        specs.split_labels({"display_name": 3, "tags": {"a": "b", "c": 1}})
    assert [violation.field for violation in caught.value.violations] == ["display_name", "tags.c"]
    with pytest.raises(InvalidInput, match="tags: must be an object of texts"):
        specs.split_labels({"tags": ["a"]})
