"""The digest of a spec as people write it is the one that the registry stored."""

from __future__ import annotations

import hashlib
import json

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tunix_rt.client.resources.runs import run_spec
from tunix_rt.contract.documents import document
from tunix_rt.evidence.spec_digest import _INT64, spec_digest
from tunix_rt.v1 import runs_pb2


def test_it_is_the_sha256_of_the_canonical_json_of_the_message() -> None:
    spec = run_spec(
        base_model="preset://tiny",
        dataset_id="ds-1",
        hyperparameters={"learning_rate": 1.0, "adam_beta1": 0.9, "max_steps": 0, "seed": 2**53, "lora": {"rank": 8}},
        evaluate_on=[{"evalset": "sums", "generation": {"seed": 3, "stop": ["</answer>"], "temperature": 0.0}}],
        deadline_seconds=60,
    )
    spec.initial_checkpoint.CopyFrom(runs_pb2.CheckpointRef(run_id="run-1", step=50))
    mapped = json.dumps(json_format.MessageToDict(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert spec_digest(document(spec)) == "sha256:" + hashlib.sha256(mapped.encode()).hexdigest()


def test_the_plain_form_of_a_spec_is_one_that_makes_the_same_spec() -> None:
    spec = run_spec(base_model="preset://tiny", dataset_id="ds-1", hyperparameters={"max_steps": 7, "packing": False})
    assert run_spec(document(spec)) == spec


def test_no_integer_of_64_bits_is_left_out() -> None:
    def int64(descriptor: Descriptor) -> set[str]:
        found = {f.name for f in descriptor.fields if f.cpp_type == FieldDescriptor.CPPTYPE_INT64}
        others = {f.name for f in descriptor.fields} - found
        assert not others & _INT64
        return found.union(*(int64(f.message_type) for f in descriptor.fields if f.message_type is not None))

    assert int64(runs_pb2.RunSpec.DESCRIPTOR) == _INT64
