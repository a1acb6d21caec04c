"""Messages as JSON documents: the one form of --json, evidence and tables."""

from __future__ import annotations

from tunix_rt.contract.documents import document, enum_name, json_value
from tunix_rt.v1 import common_pb2, datasets_pb2, evalsets_pb2, evaluations_pb2, runs_pb2


def test_numbers_enums_times_and_maps_are_plain_values() -> None:
    point = common_pb2.MetricPoint(key="loss", step=2**53, value=1.0)
    point.time.FromJsonString("2026-05-03T10:00:00.250Z")
    assert document(point) == {"key": "loss", "step": 2**53, "value": 1.0, "time": "2026-05-03T10:00:00.250Z"}
    result = evaluations_pb2.ItemResult(outcome=evaluations_pb2.ITEM_OUTCOME_ERRORED, metrics={"a": 0.5})
    assert document(result) == {"outcome": "ERRORED", "metrics": {"a": 0.5}}


def test_defaults_are_written_where_a_field_cannot_be_absent_and_only_there() -> None:
    card = evaluations_pb2.Scorecard(n_items=2, primary_score=0.0)
    found = document(card, defaults=True)
    assert (found["primary_score"], found["coverage"], found["slices"]) == (0.0, 0.0, [])
    assert "ci_low" not in found
    assert document(runs_pb2.Hyperparameters(max_steps=0)) == {"max_steps": 0}
    assert document(runs_pb2.Hyperparameters(), defaults=True) == {}


def test_whole_numbers_of_a_struct_are_integers_unless_asked_otherwise() -> None:
    item = evalsets_pb2.EvalSetItem()
    item.meta.update({"a": 1, "b": 1.5, "c": [2.0, None, True, "x", {"d": -3}], "big": 2.0**80})
    as_written = {"a": 1, "b": 1.5, "c": [2, None, True, "x", {"d": -3}], "big": 2.0**80}
    found = json_value(item.meta)
    assert found == as_written
    assert [type(found[name]) for name in ("a", "b", "big")] == [int, float, float]
    assert type(json_value(item.meta, integers=False)["a"]) is float


def test_enum_names_are_short() -> None:
    assert enum_name(common_pb2.JobState.DESCRIPTOR, common_pb2.JOB_STATE_QUEUED) == "QUEUED"
    assert enum_name(common_pb2.JobState.DESCRIPTOR, 99) == "99"


def test_bytes_and_numbers_that_json_has_no_way_to_write_are_text() -> None:
    assert document(datasets_pb2.ExportDatasetResponse(chunk=b"a\n")) == {"chunk": "YQo="}
    values = [float("nan"), float("inf"), float("-inf")]
    points = [document(common_pb2.MetricPoint(value=value)) for value in values]
    assert points == [{"value": "NaN"}, {"value": "Infinity"}, {"value": "-Infinity"}]
