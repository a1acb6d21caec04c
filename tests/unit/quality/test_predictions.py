"""Reading predictions: samples, gaps, and every bad line named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.quality.predictions import Predictions, parse_predictions


def read(*rows: Any) -> Predictions:
    return parse_predictions("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows), ["a", "b"])


def test_lines_of_one_id_are_its_samples_in_their_order() -> None:
    found = read({"id": "a", "prediction": "1"}, {"id": "b", "prediction": "2"}, {"id": "a", "prediction": "1"})
    assert found.samples == {"a": ("1", "1"), "b": ("2", None)}
    assert (found.samples_per_item, found.missing) == (2, (("b", 1),))


def test_numbered_samples_go_where_they_say() -> None:
    found = read(
        {"item_id": "a", "sample_index": 1, "prediction": "second", "metrics": {"x": 1}},
        {"item_id": "a", "sample_index": 0, "prediction": "first"},
    )
    assert found.samples == {"a": ("first", "second"), "b": (None, None)}
    assert found.missing == (("b", 0), ("b", 1))


def test_null_and_exported_errors_are_no_predictions_but_not_missing_either() -> None:
    found = read({"id": "a", "prediction": None}, {"id": "b", "prediction": "", "outcome": "ITEM_OUTCOME_ERRORED"}, "")
    assert (found.samples, found.missing) == ({"a": (None,), "b": (None,)}, ())


def test_nothing_given_is_one_missing_sample_of_everything() -> None:
    assert read("").missing == (("a", 0), ("b", 0))


def test_a_separator_of_lines_inside_a_text_is_no_line_end() -> None:
    assert read('{"id": "a", "prediction": "x\u2028y"}').samples["a"] == ("x\u2028y",)


CHOICES = [{"message": {"content": "x"}, "finish_reason": reason} for reason in ("stop", "length")]
RESPONSE = {"output": [{"type": "message", "content": [{"text": "x"}]}], "status": "incomplete"}


@pytest.mark.parametrize(
    ("row", "truncated"),
    [
        ({"prediction": "x", "finish_reason": "length"}, [0]),
        ({"prediction": "x", "finish_reason": "FINISH_REASON_LENGTH"}, [0]),
        ({"prediction": "x", "finish_reason": "stop"}, []),
        ({"prediction": "x", "finish_reason": None, "stop_reason": "max_tokens"}, [0]),
        ({"prediction": "x", "sample_index": 2, "finish_reason": "length"}, [2]),
        ({"outputs": ["x", "y", "z"], "finish_reasons": ["length", "stop"]}, [0]),
        ({"outputs": ["x", "y"], "finish_reason": "length"}, [0, 1]),
        ({"response": {"status_code": 200, "body": {"choices": CHOICES}}}, [1]),
        ({"response": {"body": {**RESPONSE, "incomplete_details": {"reason": "max_output_tokens"}}}}, [0]),
        ({"output": {"choices": [{"message": {"content": "x"}, "stop_reason": "max_tokens"}]}}, [0]),
        ({"prediction": None, "finish_reason": "length"}, []),
    ],
)
def test_what_the_token_limit_ended_is_known_as_such(row: dict[str, Any], truncated: list[int]) -> None:
    found = read({"id": "a", **row})
    assert found.truncated == {("a", index) for index in truncated}
    assert [found.finish_reason("a", index) for index in truncated] == ["length"] * len(truncated)


def test_every_bad_line_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        read(
            {"id": "a", "sample_index": 0, "prediction": "x"},
            "not json",
            "[1]",
            {"id": "zz", "prediction": "x"},
            {"id": "b"},
            {"id": 7, "prediction": "x"},
            {"id": "a", "item_id": "b", "prediction": "x"},
            {"id": "a", "sample_index": 0, "prediction": "y"},
            {"id": "a", "prediction": "y"},
            {"id": "b", "sample_index": -1, "prediction": "y"},
            {"id": "b", "sample_index": 1000, "prediction": "y"},
            '{"id": "a", "id": "b", "prediction": "x"}',
            {"prediction": 5},
        )
    assert [violation.field for violation in caught.value.violations] == [
        "line 2.json",
        "line 3.json",
        "line 4.id",
        "line 5.prediction",
        "line 6.id",
        "line 7.id",
        "line 8.sample_index",
        "line 9.sample_index",
        "line 10.sample_index",
        "line 11.sample_index",
        "line 12.json",
        "line 13.id",
        "line 13.prediction",
    ]


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(InvalidInput, match="UTF-8"):
        parse_predictions(b"\xff", ["a"])
