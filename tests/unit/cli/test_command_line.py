"""The command tree without a platform: help, usage, offline commands, messages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tunix_rt.cli.context import parse_addresses
from tunix_rt.cli.main import TREE, app, message_of
from tunix_rt.errors import FieldViolation, InvalidInput, NotFound

runner = CliRunner()


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = typer.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        if hasattr(child, "list_commands"):
            yield from leaves(child, (*path, name))
        elif not child.hidden:
            yield (*path, name)


ALL_COMMANDS = list(leaves(typer.main.get_command(app)))


def test_the_promised_commands_are_there() -> None:
    promised = {
        "up", "down", "status", "demo", "generate", "logprobs", "leaderboard", "compare", "score",
        "datasets build", "datasets import", "datasets list", "datasets show", "datasets export", "datasets recipes",
        "datasets delete", "evalsets create", "evalsets list", "evalsets show", "evalsets items", "evalsets validate",
        "datasets check", "evalsets check", "evalsets import", "evaluations export",
        "runs create", "runs list", "runs show", "runs watch", "runs cancel", "runs metrics", "runs logs",
        "runs attempts", "runs history", "evaluations create", "evaluations list", "evaluations show",
        "evaluations items", "evaluations watch", "evaluations cancel", "evaluations verify", "runs update",
        "baselines lock", "baselines list", "baselines show", "gate check", "gate policies", "gate create-policy",
        "gate decisions", "evidence build", "evidence verify", "evidence schema", "models list",
        "models show", "models export", "models register", "models merge", "models alias", "models aliases",
        "models promote",
        "models guard", "models request-waiver", "models waivers", "models unpin", "models signing-keys",
        "models load", "models loaded", "models unload", "models load-adapter", "models unload-adapter",
        "sweeps create",
        "sweeps list", "sweeps show", "sweeps trials", "sweeps watch", "sweeps cancel", "events tail", "events list",
        "runs retry", "evaluations retry", "evaluations rescore", "evaluations past-scores",
        "sweeps retry", "dlq list", "dlq show", "dlq replay", "dlq drop",
        "events republish",
        "sweeps pause", "sweeps resume", "sweeps extend", "sweeps results", "sweeps importance", "sweeps data",
        "sweeps plot", "sweeps export", "access principals", "access create", "access update",
        "certs init", "access whoami", "access login",
        "runs archive", "runs unarchive", "runs delete", "sweeps archive", "sweeps unarchive", "sweeps delete",
        "evaluations archive", "evaluations unarchive", "evaluations delete", "models archive", "models unarchive",
        "models delete", "datasets archive", "datasets unarchive", "evalsets archive", "evalsets unarchive",
        "evalsets delete", "gc",
        "backup create", "backup list", "backup verify", "backup restore",
        "access tokens", "access create-token", "access rotate-token", "access revoke-token", "access audit",
    }  # fmt: skip
    assert promised == {" ".join(path) for path in ALL_COMMANDS}


@pytest.mark.parametrize("path", ALL_COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example_and_offers_json(path: tuple[str, ...]) -> None:
    result = runner.invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert "--json" in result.stdout
    assert f"Example: tunix-rt {' '.join(path)}" in " ".join(result.stdout.split())


@pytest.mark.parametrize("group", sorted({path[0] for path in ALL_COMMANDS if len(path) > 1}))
def test_the_help_of_a_group_lists_every_command_with_its_whole_first_sentence(group: str) -> None:
    section = runner.invoke(app, [group, "--help"]).stdout.split("Commands:")[1]
    assert "..." not in section
    # A line that begins with two spaces begins a command; deeper ones continue its sentence.
    listed = [" ".join(entry.split()) for entry in re.split(r"\n  (?=\S)", section) if entry.strip()]
    assert {entry.split()[0] for entry in listed} == {path[1] for path in ALL_COMMANDS if path[0] == group}
    for entry in listed:
        name, _, sentence = entry.partition(" ")
        help_text = " ".join(runner.invoke(app, [group, name, "--help"]).stdout.split())
        assert f"{sentence.removesuffix('.')}" in help_text


def test_the_tree_says_of_a_command_what_its_own_help_begins_with() -> None:
    for name, entry in TREE.items():
        if not entry.is_group:
            help_text = " ".join(runner.invoke(app, [name, "--help"]).stdout.split())
            assert entry.help.removesuffix(".") in help_text, name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["10.0.0.1:7700"], {"registry": "10.0.0.1:7700"}),
        (["tuner=t:1", "inferencer=i:2", "r:3"], {"tuner": "t:1", "inferencer": "i:2", "registry": "r:3"}),
        ([], {}),
    ],
)
def test_one_option_says_where_each_service_is(arguments: list[str], expected: dict[str, str]) -> None:
    assert parse_addresses(arguments) == expected


def test_an_address_of_no_service_is_a_usage_error() -> None:
    result = runner.invoke(app, ["--address", "trainer=t:1", "runs", "list"])
    assert result.exit_code == 2
    assert "unknown service 'trainer'; expected one of registry, inferencer, tuner" in result.stderr


@pytest.mark.parametrize("arguments", [["runs", "--help"], ["sweeps", "create", "--help"], ["datasets", "--help"]])
def test_help_of_commands_opens_no_channel_and_reads_no_message(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from tunix_rt.cli.main import app\n"
        f"sys.argv = {['tunix-rt', *arguments]!r}\n"
        "try:\n"
        "    app()\n"
        "except SystemExit:\n"
        "    heavy = {'grpc', 'google.protobuf', 'rich.console', 'jax', 'numpy', 'nats', 'matplotlib', 'optuna'}\n"
        "    heavy |= {'tunix_rt.quality.items', 'tunix_rt.evidence.verify', 'tunix_rt.traces.quality_report'}\n"
        "    print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_needs_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys\n"
        "from tunix_rt.cli.main import app\n"
        "sys.argv = ['tunix-rt', '--help']\n"
        "try:\n"
        "    app()\n"
        "except SystemExit:\n"
        "    heavy = {'grpc', 'google.protobuf', 'pydantic', 'rich', 'jax', 'numpy', 'nats', 'matplotlib', 'optuna'}\n"
        "    print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_usage_error_exits_with_2() -> None:
    assert runner.invoke(app, ["runs", "show"]).exit_code == 2
    assert runner.invoke(app, ["no-such-command"]).exit_code == 2
    assert runner.invoke(app, ["runs", "create", "--tag", "no-equals-sign"]).exit_code == 2


def test_nobody_there_is_one_message_and_exit_1_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tunix_rt.cli.main",
            "--home",
            str(tmp_path),
            "--address",
            "127.0.0.1:9",
            "runs",
            "list",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: the registry at 127.0.0.1:9 cannot be reached")
    assert "Traceback" not in done.stderr


def test_bad_hyperparameters_are_all_named_before_anything_is_sent(tmp_path: Path) -> None:
    result = runner.invoke(
        app,
        [
            "--home",
            str(tmp_path),
            "runs",
            "create",
            "--set",
            "learning_rat=1",
            "--set",
            "packing=maybe",
            "--model",
            "m",
        ],
    )
    assert result.exit_code == 1
    assert "spec.hyperparameters.learning_rat: unknown field; Hyperparameters has learning_rate" in result.stderr
    assert "spec.hyperparameters.packing: must be true or false, not 'maybe'" in result.stderr


def test_a_plot_or_data_of_an_unknown_form_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    for command, known in (("plot", ".svg or .png or .pdf"), ("data", ".csv or .json")):
        result = runner.invoke(app, ["--home", str(tmp_path), "sweeps", command, "sweep-1", "-o", "x.gif"])
        assert result.exit_code == 1
        assert f"--output: x.gif must end in {known}" in result.stderr


def test_a_gate_without_a_decision_is_no_verdict(tmp_path: Path) -> None:
    """Exit codes 0..3 are verdicts; a platform that is away must not look like a FAIL."""
    result = runner.invoke(app, ["--home", str(tmp_path), "--address", "127.0.0.1:9", "gate", "check", "eval-1"])
    assert result.exit_code == 4


def test_messages_name_every_field_and_file() -> None:
    error = InvalidInput([FieldViolation("spec.pool", "is bad"), FieldViolation("", "too large")])
    assert message_of(error) == "error: the request is not valid\n  spec.pool: is bad\n  (request): too large"
    assert message_of(NotFound("no run")) == "error: no run"
    assert message_of(FileNotFoundError(2, "No such file or directory", "x.jsonl")) == (
        "error: x.jsonl: No such file or directory"
    )


def test_no_platform_is_told_by_status_and_down(tmp_path: Path) -> None:
    status = runner.invoke(app, ["status", "--home", str(tmp_path), "--json"])
    assert status.exit_code == 1
    assert json.loads(status.stdout) == {
        "home": str(tmp_path),
        "jobs": {},
        "parts": {},
        "state": "stopped",
        "warnings": [],
    }
    down = runner.invoke(app, ["down", "--home", str(tmp_path), "--json"])
    assert down.exit_code == 0
    assert json.loads(down.stdout) == {"home": str(tmp_path), "stopped_pid": None}


def test_unknown_services_are_refused_by_up(tmp_path: Path) -> None:
    result = runner.invoke(app, ["up", "--home", str(tmp_path), "--services", "registry,nonsense"])
    assert result.exit_code == 1
    assert "'nonsense' is none of registry" in result.stderr
