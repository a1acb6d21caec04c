from __future__ import annotations

from typing import get_args

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from tunix_rt.errors import FailedPrecondition
from tunix_rt.rpc.auth import (
    ANONYMOUS,
    PERMISSIONS,
    Permission,
    Principal,
    Role,
    current_principal,
    static_authorizer,
)
from tunix_rt.rpc.permissions import check_permissions, required_permission
from tunix_rt.v1 import (
    access_pb2,
    datasets_pb2,
    dead_letters_pb2,
    evalsets_pb2,
    evaluations_pb2,
    events_pb2,
    inference_pb2,
    jobs_pb2,
    models_pb2,
    options_pb2,
    retention_pb2,
    runs_pb2,
    scoring_pb2,
    sweeps_pb2,
    training_pb2,
    tuning_pb2,
)

FILES = (
    access_pb2,
    datasets_pb2,
    evalsets_pb2,
    evaluations_pb2,
    events_pb2,
    inference_pb2,
    jobs_pb2,
    models_pb2,
    runs_pb2,
    scoring_pb2,
    sweeps_pb2,
    training_pb2,
    tuning_pb2,
    retention_pb2,
    dead_letters_pb2,
)
SERVICES = [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]
METHODS = [f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods]


def test_an_unknown_method_needs_an_administrator() -> None:
    assert len(METHODS) > 80
    administered = {m for m in METHODS if required_permission(m) == "administer"}
    others = {m for m in administered if not m.startswith("/tunix_rt.v1.AccessService/")}
    assert others == {
        "/tunix_rt.v1.DeadLetterService/DropDeadLetters",
        "/tunix_rt.v1.DeadLetterService/ReplayDeadLetter",
        "/tunix_rt.v1.EventService/RepublishEvents",
        "/tunix_rt.v1.ModelService/UnpinModel",
        "/tunix_rt.v1.RetentionService/CollectGarbage",
    }
    assert administered > others
    assert required_permission("/tunix_rt.v1.RunService/DropEverything") == "administer"


def test_every_method_names_its_permission_in_its_proto() -> None:
    check_permissions(service.full_name for service in SERVICES)


def test_a_service_with_a_method_without_a_permission_is_refused_by_name() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="tests/no_permission.proto", package="tests", syntax="proto3")
    file.message_type.add(name="Nothing")
    service = file.service.add(name="Forgetful")
    for name in ("GetThing", "DropThing"):
        service.method.add(name=name, input_type=".tests.Nothing", output_type=".tests.Nothing")
    descriptor_pool.Default().Add(file)
    with pytest.raises(FailedPrecondition, match=r"tests\.Forgetful\.GetThing, tests\.Forgetful\.DropThing"):
        check_permissions(["tests.Forgetful"])
    assert required_permission("/tests.Forgetful/GetThing") == "administer"


@pytest.mark.parametrize(
    ("method", "permission"),
    [
        ("/tunix_rt.v1.RunService/GetRun", "read"),
        ("/tunix_rt.v1.RunService/WatchRun", "read"),
        ("/tunix_rt.v1.InferenceService/Generate", "generate"),
        ("/tunix_rt.v1.RunService/CreateRun", "edit"),
        ("/tunix_rt.v1.InferenceService/LoadModel", "load"),
        ("/tunix_rt.v1.InferenceService/LoadAdapter", "load"),
        ("/tunix_rt.v1.ModelService/SetAlias", "approve"),
        ("/tunix_rt.v1.ModelService/LockBaseline", "approve"),
        ("/tunix_rt.v1.JobService/Claim", "work"),
        ("/tunix_rt.v1.JobService/ListTransitions", "read"),
        ("/tunix_rt.v1.RunService/RecordCheckpoint", "train"),
        ("/tunix_rt.v1.EvaluationService/RecordItems", "evaluate"),
        ("/tunix_rt.v1.SweepService/CreateTrial", "tune"),
        ("/tunix_rt.v1.AccessService/GetCaller", "identify"),
        ("/tunix_rt.v1.AccessService/Introspect", "introspect"),
        ("/grpc.health.v1.Health/Check", None),
    ],
)
def test_each_method_asks_for_its_permission(method: str, permission: str | None) -> None:
    assert required_permission(method) == permission


def test_permissions_are_those_of_the_contract() -> None:
    numbers = options_pb2.Permission.DESCRIPTOR.values
    names = [value.name.removeprefix("PERMISSION_").lower() for value in numbers if value.number]
    assert list(get_args(Permission)) == names
    roles = [value.name.removeprefix("ROLE_").lower() for value in access_pb2.Role.DESCRIPTOR.values if value.number]
    assert sorted(get_args(Role)) == sorted(roles) == sorted(PERMISSIONS)


@pytest.mark.parametrize(
    ("roles", "permitted"),
    [
        ({"viewer"}, {"read", "generate"}),
        ({"editor"}, {"read", "generate", "edit", "load"}),
        ({"approver"}, {"read", "generate", "approve"}),
        ({"editor", "approver"}, {"read", "generate", "edit", "load", "approve"}),
        ({"admin"}, {"read", "generate", "edit", "load", "approve", "administer"}),
        ({"trainer"}, {"read", "introspect", "work", "train"}),
        ({"evaluator"}, {"read", "introspect", "work", "evaluate", "generate", "load"}),
        ({"tuner"}, {"read", "introspect", "work", "tune"}),
        ({"inferencer"}, {"read", "introspect"}),
        (set(), set()),
    ],
)
def test_roles_add_up(roles: set[Role], permitted: set[str]) -> None:
    principal = Principal("somebody", frozenset(roles))
    assert principal.permissions == (permitted | {"identify"} if roles else set())


def test_scopes_narrow_what_roles_permit_and_add_nothing() -> None:
    principal = Principal("somebody", frozenset({"viewer"}), scopes=frozenset({"read", "administer"}))
    assert principal.permissions == {"read", "identify"}


@pytest.mark.parametrize("token", ["a", "short-token-of-21-chr", "a" * 64, "abababababababababababababab"])
def test_a_token_that_can_be_guessed_is_refused(token: str) -> None:
    with pytest.raises(FailedPrecondition, match="128 random bits"):
        static_authorizer(token, "on")


def test_a_service_without_a_token_does_not_start_open() -> None:
    with pytest.raises(FailedPrecondition, match="TUNIX_RT_TOKEN"):
        static_authorizer(None, "on")
    assert static_authorizer(None, "off") is None


def test_nobody_calls_outside_of_a_call() -> None:
    assert current_principal() == ANONYMOUS
