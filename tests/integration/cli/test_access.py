"""`tunix-rt access` against a real registry: people and services get tokens, and what they do is on record."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tunix_rt.cli.main import app
from tunix_rt.client import TunixClient
from tunix_rt.client.connection import discover
from tunix_rt.contract.enums import Permission, Role
from tunix_rt.errors import InvalidInput, PermissionDenied, Unauthenticated
from tunix_rt.local import LocalPlatform


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    home = tmp_path_factory.mktemp("home")
    with LocalPlatform(home, ports="free", service_counts={"registry": 1}) as running:
        yield running


def run(platform: LocalPlatform, *arguments: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, ["--home", str(platform.home), "access", *arguments])
    assert result.exit_code == exit_code, (result.exit_code, result.output, result.exception)
    return result.output


def documents(platform: LocalPlatform, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(platform, *arguments, "--json").splitlines()]


def test_a_colleague_gets_a_token_that_does_what_the_roles_say_until_it_is_revoked(
    platform: LocalPlatform, tmp_path: Path
) -> None:
    (made,) = documents(platform, "create", "ann", "--role", "viewer")
    assert (made["kind"], made["roles"], made["created_by"]) == ("USER", ["VIEWER"], "bootstrap")
    path = tmp_path / "ann.token"
    shown = run(platform, "create-token", "ann", "--days", "7", "--description", "laptop", "-o", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = path.read_text().strip()
    assert secret not in shown
    run(platform, "create-token", "ann", "-o", str(path), exit_code=1)
    with TunixClient(platform.addresses["registry"], secret) as ann:
        caller = ann.access.caller()
        assert (caller.principal, caller.roles) == ("ann", (Role.VIEWER,))
        assert caller.permissions == (Permission.READ, Permission.GENERATE, Permission.IDENTIFY)
        assert list(ann.runs.list()) == []
        with pytest.raises(PermissionDenied, match="'edit'"):
            ann.datasets.build("arith-v1", size=20)
        run(platform, "update", "ann", "--role", "editor", "--role", "approver")
        assert ann.datasets.build("arith-v1", size=20).key
        successor = ann.access.rotate_token(overlap_seconds=0)
        with pytest.raises(Unauthenticated):
            ann.access.caller()
    with TunixClient(platform.addresses["registry"], successor.secret) as again:
        assert "laptop" in run(platform, "tokens", "-f", "principal = ann")
        run(platform, "revoke-token", successor.token.id)
        with pytest.raises(Unauthenticated):
            again.access.caller()


def test_what_was_done_and_refused_is_on_record_and_the_chain_holds(platform: LocalPlatform) -> None:
    run(platform, "create", "bob", "--role", "viewer")
    run(platform, "update", "bob", "--disable")
    with TunixClient(platform.addresses["registry"], "trt_nobody") as stranger, pytest.raises(Unauthenticated):
        stranger.access.caller()
    with TunixClient(home=platform.home) as admin:
        for filter, count in (("resource = bob", 2), ("outcome = UNAUTHENTICATED", 1)):  # chained within a second
            while len(list(admin.access.audit(filter=filter))) < count:
                pass
    found = documents(platform, "audit", "-f", "resource = bob")
    assert [(event["method"].split("/")[1], event["principal"]) for event in found] == [
        ("CreatePrincipal", "bootstrap"),
        ("UpdatePrincipal", "bootstrap"),
    ]
    (verified,) = documents(platform, "audit", "--verify")
    assert (verified["ok"], verified["problems"]) == (True, [])
    assert verified["events"] >= 3
    assert "unbroken" in run(platform, "audit", "--verify")
    assert "UpdatePrincipal" in run(platform, "audit")


def test_principals_of_the_services_are_there_and_each_is_only_what_it_is(platform: LocalPlatform) -> None:
    found = {each["name"]: each["roles"] for each in documents(platform, "principals", "-f", "kind = service")}
    assert found == {name: [name.upper()] for name in ("trainer", "evaluator", "tuner", "inferencer")}
    assert "admin" in run(platform, "whoami")


def test_an_unknown_role_is_refused_with_those_that_there_are(platform: LocalPlatform) -> None:
    with (
        TunixClient(home=platform.home) as admin,
        pytest.raises(InvalidInput, match="unknown value 'root'; expected viewer"),
    ):
        admin.access.create("eve", ["root"])


def test_the_clients_token_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text("of-the-file\n")
    monkeypatch.setenv("TUNIX_RT_TOKEN_FILE", str(path))
    monkeypatch.setenv("TUNIX_RT_HOME", str(tmp_path))
    token = discover().token
    assert callable(token) and token() == "of-the-file"


def test_a_team_works_in_its_project_and_an_administrator_in_the_one_that_is_named(
    platform: LocalPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = documents(platform, "create", "bea", "--role", "editor", "--project", "vision")
    assert made["project"] == "vision"
    path = tmp_path / "bea.token"
    run(platform, "create-token", "bea", "-o", str(path))
    address, token = platform.addresses["registry"], path.read_text().strip()
    with TunixClient(address, token) as bea:
        assert bea.access.caller().project == "vision"
        dataset = bea.datasets.build("arith-v1", size=20, key="sums-of-vision")
        assert dataset.project == "vision"
    with TunixClient(address, token, project="speech") as bea, pytest.raises(PermissionDenied, match="'vision'"):
        list(bea.datasets.list())

    def keys(*options: str) -> list[str]:
        given = ["--home", str(platform.home), *options, "datasets", "list", "--json"]
        result = CliRunner().invoke(app, given)
        assert result.exit_code == 0, result.output
        return [json.loads(line)["key"] for line in result.output.splitlines()]

    assert keys("--project", "vision") == ["sums-of-vision"]
    assert keys("--project", "speech") == []
    assert "sums-of-vision" in keys()
    monkeypatch.setenv("TUNIX_RT_PROJECT", "speech")
    assert keys() == []
    assert keys("--project", "vision") == ["sums-of-vision"]
    monkeypatch.delenv("TUNIX_RT_PROJECT")
    (moved,) = documents(platform, "update", "bea", "--project", "speech")
    assert moved["project"] == "speech"
    assert "speech" in run(platform, "principals")
    assert json.loads(run(platform, "whoami", "--json"))["project"] == ""
