"""Names, tags, questions and messages with control sequences: no view sends them to the terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunix_rt.cli import gate_reports, printing
from tunix_rt.cli.main import app
from tunix_rt.cli.visible import safe_console, visible, visible_json
from tunix_rt.client import TunixClient
from tunix_rt.local import LocalPlatform

# Sets the title, clears the screen, hides a link, moves up, C1's CSI, and turns the direction of what follows.
HOSTILE = "a\x1b]0;owned\x07b\x1b[2Jc\x1b]8;;http://x\x1b\\d\x9b31me\rf\x08g\x7fh\u202ei"
CONTROL = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x202E)} - {"\n"}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    home = tmp_path_factory.mktemp("home")
    with LocalPlatform(home, ports="free", service_counts={"registry": 1}) as running:
        yield running


def steers(text: str) -> set[str]:
    return CONTROL & set(text)


def test_every_view_of_hostile_names_shows_them_and_obeys_nothing(platform: LocalPlatform, tmp_path: Path) -> None:
    evalset = tmp_path / "evalset.jsonl"
    item = {"id": "q1", "prompt": HOSTILE.replace("\x7f", ""), "expected_answer": "1"}
    evalset.write_text(json.dumps(item) + "\n")
    with TunixClient(home=platform.home) as client:
        client.evalsets.create(evalset, key="hostile")
        dataset = client.datasets.build("arith-v1", size=20, tags={"note": HOSTILE})
        run = client.runs.create(
            base_model="preset://tiny",
            dataset_id=dataset.id,
            hyperparameters={"max_steps": 1},
            display_name=HOSTILE,
            tags={"note": HOSTILE},
        )
        client.runs.cancel(run.id, message=HOSTILE)
        client.access.create_token(description=HOSTILE)
    shown = 0
    for command in (
        ["runs", "list"],
        ["runs", "show", run.id],
        ["runs", "history", run.id],
        ["runs", "watch", run.id],
        ["datasets", "list"],
        ["datasets", "show", dataset.id],
        ["evalsets", "show", "hostile"],
        ["evalsets", "items", "hostile"],
        ["evalsets", "validate", str(evalset)],
        ["evalsets", "check", str(evalset)],
        ["events", "list"],
        ["access", "tokens"],
        ["access", "audit"],
        ["runs", "show", HOSTILE],
        ["runs", "list", "--filter", HOSTILE],
    ):
        for as_json in ([], ["--json"]):
            result = CliRunner().invoke(app, ["--home", str(platform.home), *command, *as_json])
            assert not steers(result.output), (command, result.output)
            shown += "owned" in result.output
    assert shown > 15


def test_json_is_the_same_value_and_has_no_control_character() -> None:
    text = visible_json(printing.canonical({"name": HOSTILE}))
    assert not steers(text)
    assert json.loads(text) == {"name": HOSTILE}


def test_the_console_sends_its_own_sequences_only() -> None:
    out = io.StringIO()
    console = safe_console(file=out, force_terminal=True, color_system="standard", width=200, highlight=False)
    console.print(f"[red]{HOSTILE}[/red]")
    printed = out.getvalue()
    assert printed.count("\x1b") == 2  # red, and reset
    assert visible(HOSTILE.replace("\r", "").replace("\x08", "").replace("\x07", ""))[:3] == "a␛]"
    assert "␛]0;owned" in printed and "<U+009B>" in printed and "<U+202E>" in printed


def test_reports_hold_no_control_characters() -> None:
    assert not steers(gate_reports.cell(HOSTILE))
