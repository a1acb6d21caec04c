"""Specs are stored as the documents that people see, and read back as they were."""

from __future__ import annotations

import hashlib
import json

from google.protobuf.struct_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from tunix_rt.registry.kernel.stored import read_stored, stored_text
from tunix_rt.registry.runs.tables import spec_columns
from tunix_rt.v1 import common_pb2, runs_pb2
from tunix_rt.v1 import sweeps_pb2 as pb

TEXT = st.text(max_size=20).filter(lambda text: text.isprintable())
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def specs(draw: st.DrawFn) -> runs_pb2.RunSpec:
    """Some fields set and others not, at every level."""
    maybe = st.none()
    generation = common_pb2.GenerationConfig(
        max_new_tokens=draw(maybe | INT32),
        temperature=draw(maybe | NUMBER),
        seed=draw(maybe | INT64),
        stop=draw(st.lists(TEXT, max_size=3)),
        stop_token_ids=draw(st.lists(INT32, max_size=3)),
    )
    hyperparameters = runs_pb2.Hyperparameters(
        learning_rate=draw(maybe | NUMBER),
        packing=draw(maybe | st.booleans()),
        seed=draw(maybe | INT64),
        dtype=draw(maybe | TEXT),
        lora=runs_pb2.LoraConfig(rank=draw(INT32), alpha=draw(NUMBER), target_modules=draw(st.lists(TEXT, max_size=3))),
        **draw(st.sampled_from([{}, {"max_steps": 2**40}, {"num_epochs": 0.5}])),
    )
    asked = runs_pb2.EvaluateOn(evalset=draw(TEXT), generation=generation, threshold=draw(maybe | NUMBER))
    return runs_pb2.RunSpec(
        base_model=draw(TEXT),
        hyperparameters=hyperparameters if draw(st.booleans()) else None,
        evaluate_on=[asked] * draw(st.integers(0, 2)),
        deadline_seconds=draw(INT64),
    )


@given(specs())
def test_a_stored_spec_is_read_as_it_was(spec: runs_pb2.RunSpec) -> None:
    read = read_stored(runs_pb2.RunSpec, stored_text(spec))
    assert read.SerializeToString(deterministic=True) == spec.SerializeToString(deterministic=True)


def test_enums_maps_and_json_values_are_read_as_they_were() -> None:
    choice = pb.Choice(values=[Value(number_value=4), Value(number_value=0.5), Value(string_value="a")])
    choice.values.add(bool_value=True)
    spec = pb.SweepSpec(
        scheduler=pb.TRIAL_SCHEDULER_ASHA,
        objective=pb.Objective(metric="loss", mode=pb.OBJECTIVE_MODE_MIN),
        parameters=[
            pb.Parameter(name="packing", choice=choice),
            pb.Parameter(
                name="warmup_steps",
                randint=pb.RandInt(low=0, high=2**60),
                when=pb.Condition(parameter="packing", values=choice.values[3:]),
            ),
        ],
        trial_resources={"CPU": 0.5, "memory": 2.0},
        tpe=pb.TpeSettings(multivariate=False),
    )
    assert read_stored(pb.SweepSpec, stored_text(spec)) == spec


def test_the_digest_of_a_spec_is_that_of_the_document_that_people_see() -> None:
    spec = runs_pb2.RunSpec(base_model="preset://tiny", deadline_seconds=60)
    spec.hyperparameters.max_steps = 2**53
    spec.hyperparameters.learning_rate = 1.0
    text = (
        '{"base_model":"preset://tiny","deadline_seconds":60,'
        '"hyperparameters":{"learning_rate":1.0,"max_steps":9007199254740992}}'
    )
    assert (stored_text(spec), json.loads(text)["deadline_seconds"]) == (text, 60)
    columns = spec_columns(spec)
    assert (columns["spec"], columns["spec_digest"]) == (text, "sha256:" + hashlib.sha256(text.encode()).hexdigest())
