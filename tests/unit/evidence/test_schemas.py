"""The published schemas are JSON schemas, fit what is built, and mean to our checker what they mean to `jsonschema`."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
from google.protobuf.descriptor import Descriptor

from tunix_rt.errors import NotFound
from tunix_rt.evidence import documents
from tunix_rt.evidence.schema_check import violations
from tunix_rt.evidence.schemas import names, schema
from tunix_rt.v1 import common_pb2, datasets_pb2, evalsets_pb2, evaluations_pb2, jobs_pb2, models_pb2, runs_pb2

JSON_FILES = (documents.ALWAYS | documents.OF_A_RUN | documents.SOMETIMES) - {documents.README, documents.SUMS}


def objects(name: str, content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.decode().splitlines()]


def test_every_file_has_a_schema_and_every_schema_a_file() -> None:
    assert set(names()) == {name.partition(".")[0] for name in JSON_FILES}
    with pytest.raises(NotFound, match="run_manifest"):
        schema("nonsense")


@pytest.mark.parametrize("name", names())
def test_a_schema_is_a_json_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))


def test_what_is_built_fits_its_schema(contents: Mapping[str, bytes]) -> None:
    for name in JSON_FILES:
        validator = jsonschema.Draft202012Validator(schema(name.partition(".")[0]))
        for document in objects(name, contents[name]):
            validator.validate(document)
            assert list(violations(document, schema(name.partition(".")[0]))) == []


def changes(document: dict[str, Any]) -> list[dict[str, Any]]:
    """``document`` with each field of it, and of the objects directly in it, gone or of another type, and one more."""
    found = []
    for parent in ((), *((key,) for key, value in document.items() if isinstance(value, dict))):
        at = document[parent[0]] if parent else document
        for key in [*at, "unknown"]:
            for value in (None, "", "x", -1, 1.5, True, [], {}, [1], "gone"):
                changed = copy.deepcopy(document)
                target = changed[parent[0]] if parent else changed
                if value == "gone":
                    target.pop(key, None)
                else:
                    target[key] = value
                found.append(changed)
    return found


@pytest.mark.parametrize("name", sorted(JSON_FILES))
def test_our_checker_refuses_exactly_what_jsonschema_refuses(name: str, contents: Mapping[str, bytes]) -> None:
    rules = schema(name.partition(".")[0])
    validator = jsonschema.Draft202012Validator(rules)
    refused = 0
    for document in changes(objects(name, contents[name])[0]):
        ours = not list(violations(document, rules))
        assert ours == validator.is_valid(document), document
        refused += not ours
    assert refused > 10


@pytest.mark.parametrize(
    ("value", "rules"),
    [
        (3, {"type": "integer"}),
        (3.0, {"type": "integer"}),
        (3.5, {"type": "integer"}),
        (True, {"type": "integer"}),
        (True, {"type": "number"}),
        (True, {"type": "boolean"}),
        (None, {"type": ["string", "null"]}),
        ("b", {"enum": ["a", "c"]}),
        (2, {"const": 1}),
        ("xay", {"pattern": "a"}),
        ("xby", {"pattern": "a"}),
        (7, {"pattern": "a"}),
        (5, {"minimum": 5, "maximum": 5}),
        (4, {"minimum": 5}),
        (6, {"maximum": 5}),
        ("4", {"minimum": 5}),
        ([1, "a"], {"items": {"type": "integer"}}),
        ({"a": 1, "b": "c"}, {"additionalProperties": {"type": "integer"}}),
        ({"a": 1}, {"anyOf": [{"required": ["b"]}, {"properties": {"a": {"const": 1}}}]}),
        ({"a": 2}, {"anyOf": [{"required": ["b"]}, {"properties": {"a": {"const": 1}}}]}),
        ({"a": {"b": 1}}, {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"required": ["c"]}}}),
    ],
)
def test_each_keyword_means_what_it_means_to_jsonschema(value: Any, rules: dict[str, Any]) -> None:
    assert (not list(violations(value, rules))) == jsonschema.Draft202012Validator(rules).is_valid(value)


def test_a_keyword_that_the_checker_does_not_know_is_an_error_and_not_passed_over() -> None:
    with pytest.raises(ValueError, match="uniqueItems"):
        list(violations([1, 1], {"uniqueItems": True}))


def fields(descriptor: Descriptor, *but: str) -> set[str]:
    return {field.name for field in descriptor.fields} - set(but)


def test_the_schemas_hold_every_field_of_the_contracts_that_they_repeat() -> None:
    def properties(name: str, *path: str) -> set[str]:
        at: dict[str, Any] = schema(name)
        for part in path:
            at = at["items"] if part == "[]" else at["additionalProperties"] if part == "{}" else at["properties"][part]
        return set(at["properties"])

    runs, models, evaluations = runs_pb2, models_pb2, evaluations_pb2
    assert properties("eval_summary", "scorecard") == fields(evaluations.Scorecard.DESCRIPTOR)
    assert properties("eval_summary", "generation") == fields(common_pb2.GenerationConfig.DESCRIPTOR)
    assert properties("eval_summary", "identity") == fields(evaluations.ScoreIdentity.DESCRIPTOR)
    assert properties("predictions") == fields(evaluations.ItemResult.DESCRIPTOR)
    assert properties("evalset") == fields(evalsets_pb2.EvalSetItem.DESCRIPTOR, "index")
    assert properties("evalset_manifest") == fields(evalsets_pb2.EvalSet.DESCRIPTOR, "etag", "archive_time")
    # Evidence made before may hold parent_dataset_ids, which is always empty.
    assert properties("dataset_manifest", "manifest") == fields(datasets_pb2.DatasetManifest.DESCRIPTOR) | {
        "parent_dataset_ids"
    }
    assert properties("run_manifest", "config") == fields(runs.RunSpec.DESCRIPTOR)
    assert properties("run_manifest", "config", "hyperparameters") == fields(runs.Hyperparameters.DESCRIPTOR)
    assert properties("environment", "attempts", "[]") == fields(
        jobs_pb2.Attempt.DESCRIPTOR, "id", "job_id", "heartbeat_time"
    )
    assert properties("gate_decisions", "decisions", "[]") == fields(models.GateDecision.DESCRIPTOR)
    assert properties("gate_decisions", "policies", "{}") == fields(models.GatePolicy.DESCRIPTOR, "etag")
