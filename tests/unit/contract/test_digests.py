from __future__ import annotations

import math

import pytest

from tunix_rt.artifacts import ArtifactRoot
from tunix_rt.artifacts.digests import hex_of
from tunix_rt.contract.digests import canonical_json, is_digest, sha256_digest
from tunix_rt.errors import InvalidArtifact, Violations
from tunix_rt.inferencer.messages import check_load_adapter
from tunix_rt.registry.evaluations.attempts import EVALUATION
from tunix_rt.registry.runs.checks import read_artifact
from tunix_rt.v1 import common_pb2, inference_pb2, jobs_pb2

# `printf abc | sha256sum`
ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
DIGESTS = [
    (ABC, True),
    ("sha256:" + "0" * 64, True),
    ("sha256:" + "0" * 63, False),
    ("sha256:" + "0" * 65, False),
    ("sha256:" + "z" * 64, False),
    (ABC.upper(), False),
    ("sha256:" + ABC[7:].upper(), False),
    ("sha512:" + "0" * 64, False),
    (ABC + "\n", False),
    (ABC[7:], False),
]


def test_text_and_its_utf8_have_the_digest_that_sha256sum_prints() -> None:
    assert sha256_digest("abc") == sha256_digest(b"abc") == ABC


def test_canonical_json_is_one_text_for_one_value() -> None:
    assert canonical_json({"b": [1, 1.5, True, None], "a": "é"}) == '{"a":"é","b":[1,1.5,true,null]}'
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_json(value)


@pytest.mark.parametrize(("text", "ok"), DIGESTS)
def test_registry_inferencer_and_artifact_store_agree_on_what_a_digest_is(text: str, ok: bool) -> None:
    asked = inference_pb2.LoadAdapterRequest(model="m", reference="file:///a", expected_digest=text)
    found = Violations()
    stored = common_pb2.Artifact(uri="file:///store/a", digest=text, size_bytes=1)
    stored.files.add(path="a", digest=ABC, size_bytes=1)
    read_artifact(stored, ArtifactRoot("file:///store"), found)
    refused = {
        "rule": not is_digest(text),
        "inferencer": [each.field for each in check_load_adapter(asked)] == ["expected_digest"],
        "artifact of a run": [each.field for each in found] == ["digest"],
        "end of an evaluation": evaluation_refused(text),
        "artifact store": store_refused(text),
    }
    assert set(refused.values()) == {not ok}, refused


def evaluation_refused(digest: str) -> bool:
    found = Violations()
    result = jobs_pb2.EvaluationResult(model_digest=digest, scorer_version="1")
    EVALUATION.read_result(result, ArtifactRoot("file:///store"), found)
    return [each.field for each in found] == ["model_digest"]


def store_refused(digest: str) -> bool:
    try:
        hex_of(digest)
    except InvalidArtifact:
        return True
    return False
