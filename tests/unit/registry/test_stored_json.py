"""Messages are read from stored JSON as protobuf's own parser reads them."""

from __future__ import annotations

from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from tunix_rt.registry.kernel.outbox import message_json
from tunix_rt.registry.kernel.stored_json import message_of
from tunix_rt.v1 import common_pb2, runs_pb2

TEXT = st.text(max_size=20).filter(lambda text: text.isprintable())
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
NUMBER = st.floats()


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
def test_a_stored_spec_is_read_as_protobuf_reads_it(spec: runs_pb2.RunSpec) -> None:
    # Not by `message_json`, which refuses what is not finite.
    text = json_format.MessageToJson(spec)
    expected = json_format.Parse(text, runs_pb2.RunSpec())
    assert message_of(runs_pb2.RunSpec, text).SerializeToString(deterministic=True) == expected.SerializeToString(
        deterministic=True
    )


def test_enums_are_read_by_name() -> None:
    transition = common_pb2.Transition(to_state=common_pb2.JOB_STATE_RUNNING, attempt=2, actor="ann")
    assert message_of(common_pb2.Transition, message_json(transition)) == transition
