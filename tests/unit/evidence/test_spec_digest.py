"""The digest of the spec that evidence holds is the one that the registry stored, in every release."""

from __future__ import annotations

import hashlib
import json

from google.protobuf import json_format

from tunix_rt.client.resources.runs import run_spec
from tunix_rt.contract.documents import document
from tunix_rt.evidence.spec_digest import former_spec_digest, spec_digest
from tunix_rt.registry.runs.tables import spec_columns
from tunix_rt.v1 import runs_pb2


def spec() -> runs_pb2.RunSpec:
    spec = run_spec(
        base_model="preset://tiny",
        dataset_id="ds-1",
        hyperparameters={"learning_rate": 1.0, "adam_beta1": 0.9, "max_steps": 0, "seed": 2**53, "lora": {"rank": 8}},
        evaluate_on=[{"evalset": "sums", "generation": {"seed": 3, "stop": ["</answer>"], "temperature": 0.0}}],
        deadline_seconds=60,
    )
    spec.initial_checkpoint.CopyFrom(runs_pb2.CheckpointRef(run_id="run-1", step=50))
    return spec


def test_it_is_the_digest_that_the_registry_stores() -> None:
    assert spec_digest(document(spec())) == spec_columns(spec())["spec_digest"]


def test_it_was_the_sha256_of_the_canonical_protobuf_json() -> None:
    mapped = json.dumps(json_format.MessageToDict(spec()), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert former_spec_digest(document(spec())) == "sha256:" + hashlib.sha256(mapped.encode()).hexdigest()


def test_the_plain_form_of_a_spec_is_one_that_makes_the_same_spec() -> None:
    spec = run_spec(base_model="preset://tiny", dataset_id="ds-1", hyperparameters={"max_steps": 7, "packing": False})
    assert run_spec(document(spec)) == spec
