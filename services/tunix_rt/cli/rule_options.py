"""Command-line options made from a rule table: one for each field, by its name and its short forms."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any

import typer

from tunix_rt.contract.rules import ANY, Rule

# Larger limits are not shown: they are of no use to users.
_LARGE = 2**31 - 1

Command = Callable[..., None]


def with_options(argument: str, rules: Mapping[str, Rule], panel: str) -> Callable[[Command], Command]:
    """Give a command an option for each rule.

    Its argument ``argument`` becomes a dictionary of those that were given, by name (``lora.rank``). ``panel`` is their
    heading in the help.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        kept = [parameter for name, parameter in signature.parameters.items() if name != argument]
        options = [_option(name, rule, panel) for name, rule in rules.items()]

        @wraps(command)
        def run(**arguments: Any) -> None:
            values = {name: arguments.pop(_variable(name)) for name in rules}
            given = {name: value for name, value in values.items() if value not in (None, [])}
            command(**arguments, **{argument: given})

        run.__signature__ = signature.replace(parameters=[*kept, *options])  # type: ignore[attr-defined]
        return run

    return decorate


def help_of(rule: Rule) -> str:
    """The rule's help, its values and its default: ``Peak learning rate. (0, 1]; default 0.0001``."""
    values = " | ".join(filter(None, rule.served or rule.choices)) or ("" if rule.interval == ANY else rule.interval)
    if (rule.kind is str and not rule.choices) or rule.entries is not None:
        values = "repeatable" if rule.entries is not None else ""
    elif rule.kind is int and rule.high >= _LARGE:
        values = f"≥ {rule.low}" if rule.low > -_LARGE else ""
    quiet = rule.default in (None, "", ()) or rule.kind is bool or rule.zero_is_default
    default = "" if quiet else f"default {rule.default}".removesuffix(".0")
    return f"{rule.help} {'; '.join(filter(None, (values, default)))}".strip()


def given(**values: Any) -> dict[str, Any] | None:
    """The values that were given; None when none was."""
    return {name: value for name, value in values.items() if value is not None} or None


def _option(name: str, rule: Rule, panel: str) -> inspect.Parameter:
    flag = f"--{_variable(name).replace('_', '-')}"
    names = [f"{flag}/--no-{flag.removeprefix('--')}"] if rule.kind is bool else [flag, *rule.flags]
    option = typer.Option(*names, help=help_of(rule), show_default=False, rich_help_panel=panel)
    kind: Any = rule.kind if rule.entries is None else list[rule.kind]  # type: ignore[name-defined]
    return inspect.Parameter(
        _variable(name), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _variable(name: str) -> str:
    return name.replace(".", "_")
