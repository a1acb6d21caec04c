"""Field behaviour in the protos and the registry's checks say the same."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from tunix_rt.errors import InvalidInput
from tunix_rt.v1 import (
    datasets_pb2,
    evalsets_pb2,
    evaluations_pb2,
    jobs_pb2,
    models_pb2,
    options_pb2,
    runs_pb2,
    sweeps_pb2,
)

FILES = (datasets_pb2, evalsets_pb2, evaluations_pb2, jobs_pb2, models_pb2, runs_pb2, sweeps_pb2)


def required(method: MethodDescriptor) -> set[str]:
    return {
        field.name
        for field in method.input_type.fields
        if field.GetOptions().Extensions[options_pb2.behavior] == options_pb2.FIELD_BEHAVIOR_REQUIRED
    }


METHODS = [
    method.full_name
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if required(method)
]


def test_most_methods_require_something() -> None:
    assert len(METHODS) > 45


@pytest.mark.parametrize("name", METHODS)
async def test_an_empty_request_is_refused_for_required_fields_alone(registry: Any, refusal: Any, name: str) -> None:
    method = descriptor_pool.Default().FindMethodByName(name)
    path = f"/{method.containing_service.full_name}/{method.name}"
    channel = registry.channels[0]
    decode = GetMessageClass(method.output_type).FromString
    if method.server_streaming:
        stream = channel.unary_stream(path, response_deserializer=decode)(b"", timeout=20)
        refused = await refusal(stream.read())
    else:
        refused = await refusal(channel.unary_unary(path, response_deserializer=decode)(b"", timeout=20))
    assert refused.kind is InvalidInput
    named = {field.split(".")[0].split("[")[0] for field in refused.fields}
    assert named
    assert named <= required(method)
