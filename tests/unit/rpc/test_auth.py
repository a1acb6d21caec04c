from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from tunix_rt.errors import FailedPrecondition
from tunix_rt.rpc.auth import ANONYMOUS, Principal, current_principal, static_authorizer
from tunix_rt.rpc.roles import check_roles, required_role
from tunix_rt.v1 import (
    datasets_pb2,
    evalsets_pb2,
    evaluations_pb2,
    events_pb2,
    inference_pb2,
    models_pb2,
    runs_pb2,
    scoring_pb2,
    sweeps_pb2,
    training_pb2,
    tuning_pb2,
)

FILES = (
    datasets_pb2,
    evalsets_pb2,
    evaluations_pb2,
    events_pb2,
    inference_pb2,
    models_pb2,
    runs_pb2,
    scoring_pb2,
    sweeps_pb2,
    training_pb2,
    tuning_pb2,
)
SERVICES = [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]
METHODS = [f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods]


def test_only_unknown_methods_need_an_admin() -> None:
    assert len(METHODS) > 60
    assert [method for method in METHODS if required_role(method) == "admin"] == []
    assert required_role("/tunix_rt.v1.RunService/DropEverything") == "admin"


def test_every_method_names_its_role_in_its_proto() -> None:
    check_roles(service.full_name for service in SERVICES)


def test_a_service_with_a_method_without_a_role_is_refused_by_name() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="tests/no_role.proto", package="tests", syntax="proto3")
    file.message_type.add(name="Nothing")
    service = file.service.add(name="Forgetful")
    for name in ("GetThing", "DropThing"):
        service.method.add(name=name, input_type=".tests.Nothing", output_type=".tests.Nothing")
    descriptor_pool.Default().Add(file)
    with pytest.raises(FailedPrecondition, match=r"tests\.Forgetful\.GetThing, tests\.Forgetful\.DropThing"):
        check_roles(["tests.Forgetful"])
    assert required_role("/tests.Forgetful/GetThing") == "admin"


@pytest.mark.parametrize(
    ("method", "role"),
    [
        ("/tunix_rt.v1.RunService/GetRun", "viewer"),
        ("/tunix_rt.v1.RunService/WatchRun", "viewer"),
        ("/tunix_rt.v1.InferenceService/Generate", "viewer"),
        ("/tunix_rt.v1.RunService/CreateRun", "editor"),
        ("/tunix_rt.v1.InferenceService/LoadModel", "editor"),
        ("/tunix_rt.v1.InferenceService/LoadAdapter", "editor"),
        ("/tunix_rt.v1.ModelService/SetAlias", "approver"),
        ("/tunix_rt.v1.ModelService/LockBaseline", "approver"),
        ("/tunix_rt.v1.JobService/Claim", "worker"),
        ("/tunix_rt.v1.JobService/ListTransitions", "viewer"),
        ("/tunix_rt.v1.SweepService/CreateTrial", "worker"),
        ("/grpc.health.v1.Health/Check", None),
    ],
)
def test_each_method_asks_for_its_role(method: str, role: str | None) -> None:
    assert required_role(method) == role


@pytest.mark.parametrize(
    ("held", "allowed"),
    [
        ("viewer", {"viewer"}),
        ("editor", {"viewer", "editor"}),
        ("approver", {"viewer", "editor", "approver"}),
        ("admin", {"viewer", "editor", "approver", "admin"}),
        ("worker", {"viewer", "editor", "worker"}),
    ],
)
def test_roles_include_the_smaller_ones(held: str, allowed: set[str]) -> None:
    principal = Principal("somebody", frozenset({held}))  # type: ignore[arg-type]
    roles = ("viewer", "editor", "approver", "admin", "worker")
    assert {role for role in roles if principal.allows(role)} == allowed  # type: ignore[arg-type]


def test_a_service_without_a_token_does_not_start_open() -> None:
    with pytest.raises(FailedPrecondition, match="TUNIX_RT_TOKEN"):
        static_authorizer(None, "on")
    assert static_authorizer(None, "off") is None


def test_nobody_calls_outside_of_a_call() -> None:
    assert current_principal() == ANONYMOUS
