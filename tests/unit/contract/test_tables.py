"""What is written of the rules elsewhere, options and documentation, says what the table says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from tunix_rt.cli.main import app
from tunix_rt.contract.generation import GENERATION_RULES
from tunix_rt.contract.hyperparameters import LORA_RULES, MESH_RULES, RULES
from tunix_rt.contract.rules import Rule

DOCS = Path(__file__).parents[3] / "docs"
HYPERPARAMETERS = {
    **RULES,
    **{f"lora.{name}": rule for name, rule in LORA_RULES.items()},
    **{f"mesh.{name}": rule for name, rule in MESH_RULES.items()},
}


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below ``heading``, without code marks."""
    text = (DOCS / page).read_text().split(f"\n## {heading}\n")[1].split("\n#")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


def default_of(rule: Rule) -> str:
    if rule.default is None or rule.default == () or (rule.zero_is_default and rule.default == 0):
        return ""
    if isinstance(rule.default, bool):
        return str(rule.default).lower()
    return rule.default if isinstance(rule.default, str) else f"{rule.default:g}"


def values_of(rule: Rule) -> str:
    if rule.kind is bool:
        return "true, false"
    if rule.entries is not None:
        return f"at most {rule.entries}"
    return ", ".join(rule.choices) or rule.interval


def options_of(*path: str) -> dict[str, set[str]]:
    """The options of a command by the name of what they set."""
    command: Any = get_command(app)
    for name in path:
        command = command.get_command(typer.Context(command), name)
    return {parameter.name: {*parameter.opts, *parameter.secondary_opts} for parameter in command.params}


def test_the_table_in_the_documentation_is_that_of_the_rules() -> None:
    found = {
        name: (short, default, values) for name, short, default, values, _ in rows_of("training.md", "Hyperparameters")
    }
    assert found == {
        name: (", ".join(rule.flags), default_of(rule), values_of(rule)) for name, rule in HYPERPARAMETERS.items()
    }


def test_every_hyperparameter_has_its_option_and_short_forms() -> None:
    options = options_of("runs", "create")
    for name, rule in RULES.items():
        flag = "--" + re.sub("[._]", "-", name)
        off = {f"--no-{flag[2:]}"} if rule.kind is bool else set()
        assert options[name.replace(".", "_")] == {flag, *rule.flags, *off}


def test_every_served_field_of_a_generation_config_has_its_option() -> None:
    options = options_of("generate")
    expected: dict[str, Any] = {}
    for name, rule in GENERATION_RULES.items():
        flag = "--" + name.replace("_", "-")
        expected[name] = {flag, *rule.flags, *({f"--no-{flag[2:]}"} if rule.kind is bool else ())}
    assert {name: options.get(name) for name in expected} == expected | {"dtype": None, "prompt_version": None}
