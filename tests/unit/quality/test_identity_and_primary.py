"""Score identity and the primary score, legacy rows included."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from tunix_rt.contract.generation import PROMPT_VERSION, complete_generation, of_this_version
from tunix_rt.errors import InvalidInput
from tunix_rt.quality.identity import generation_digest
from tunix_rt.quality.primary import PrimaryScore, primary_score
from tunix_rt.v1 import common_pb2


def test_unset_and_default_generation_are_one_identity() -> None:
    assert generation_digest({}) == generation_digest(
        {"temperature": 0, "top_p": 1, "stop": [], "seed": None, "max_new_tokens": 256}
    )
    assert generation_digest({"temperature": 1}) == generation_digest({"temperature": 1.0})
    assert generation_digest({"temperature": -0.0}) == generation_digest({})


@pytest.mark.parametrize(
    "change",
    [
        {"max_new_tokens": 255},
        {"temperature": 0.1},
        {"seed": 1},
        {"stop": ["\n"]},
        {"stop_token_ids": [2]},
        {"system_prompt": "x"},
        {"dtype": "bfloat16"},
        {"weight_format": "int8-v1"},
        {"chat_template": "plain"},
        {"parse_control_tokens": True},
        {"prompt_version": 2},
    ],
)
def test_any_other_value_is_another_identity(change: dict[str, Any]) -> None:
    assert generation_digest(change) != generation_digest({})


def test_a_config_of_the_former_prompts_keeps_its_identity() -> None:
    """As the release before prompts had a version gave them."""
    former = "sha256:f6f7d31b2c356d0d30a77fc591f8a850ce6034f581154528e05ca724b3ab1ee2"
    assert generation_digest({}) == former
    sampled = {"temperature": 0.7, "weight_format": "int8-v1"}
    assert generation_digest(sampled) == "sha256:773253565ce72c335c4a7c35cee2655b724abf308846245f9894605bf3fdc95c"
    assert complete_generation(of_this_version({}))["prompt_version"] == PROMPT_VERSION == 2
    assert generation_digest(of_this_version({})) != former
    assert generation_digest(complete_generation(of_this_version({}))) == generation_digest(of_this_version({}))


def test_every_field_of_the_contract_is_part_of_the_identity() -> None:
    from tunix_rt.contract.generation import GENERATION_RULES

    assert set(GENERATION_RULES) == {f.name for f in common_pb2.GenerationConfig.DESCRIPTOR.fields}


def test_unknown_or_mistyped_fields_are_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        generation_digest({"temprature": 1, "seed": 1.5, "dtype": 3})
    assert [v.field for v in caught.value.violations] == ["temprature", "seed", "dtype"]


def test_legacy_rows_count_as_hundredths() -> None:
    rows: list[dict[str, Any]] = [{"answer_correctness": 1.0}, {"metrics": {"answer_correctness": 0.0}}, {"score": 50}]
    assert primary_score(rows) == PrimaryScore(0.5, 3, 0)


def test_unusable_values_are_excluded_and_counted_never_clipped() -> None:
    bad: list[Any] = [101, -1, math.nan, math.inf, None, "90", True]
    assert primary_score([{"score": value} for value in bad] + [{"score": 80}]) == PrimaryScore(0.8, 1, 7)
    assert primary_score([{"answer_correctness": 1.5, "score": 80}]) == PrimaryScore(None, 0, 1)
    assert primary_score([]) == PrimaryScore(None, 0, 0)


def test_order_never_matters() -> None:
    source = random.Random(1)
    rows = [{"answer_correctness": source.random()} for _ in range(500)]
    first = primary_score(rows)
    for _ in range(50):
        source.shuffle(rows)
        assert primary_score(rows) == first
