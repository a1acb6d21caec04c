"""Command options made from the rule table: one for each field, with its short forms, range and default."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from tunix_rt.contract.rules import Rule

F = TypeVar("F", bound=Callable[..., None])

# Further up a range says nothing that a user would want to know.
_LARGE = 2**31 - 1


def rule_options(into: str, rules: Mapping[str, Rule]) -> Callable[[F], F]:
    """Add an option for each of ``rules`` to a command; its parameter ``into`` gets the given ones, by field name."""

    def decorate(function: F) -> F:
        signature = inspect.signature(function, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            parameters += (
                [_option(name, rule) for name, rule in rules.items()] if parameter.name == into else [parameter]
            )

        @functools.wraps(function)
        def command(**given: Any) -> None:
            values = {name: value for name in rules if (value := given.pop(name)) not in (None, [])}
            function(**given, **{into: values})

        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command  # type: ignore[return-value]

    return decorate


def given(**values: Any) -> dict[str, Any] | None:
    """The values that were given; None when none was."""
    return {name: value for name, value in values.items() if value is not None} or None


def _option(name: str, rule: Rule) -> inspect.Parameter:
    flag = "--" + name.replace("_", "-")
    flags = (f"{flag}/--no-{flag[2:]}",) if rule.kind is bool else (flag, *rule.flags)
    kind: Any = rule.kind if rule.entries is None else list[rule.kind]  # type: ignore[name-defined]
    option = typer.Option(*flags, help=help_of(rule), show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Annotated[kind | None, option]
    )


def help_of(rule: Rule) -> str:
    """``"Peak learning rate. (0, 1]; default 0.0001."``"""
    limits = " | ".join(each for each in rule.served or rule.choices if each) or _range(rule)
    facts = "; ".join(filter(None, (limits, _default(rule))))
    repeatable = "Repeatable." if rule.entries is not None else ""
    return " ".join(filter(None, (rule.help, f"{facts}." if facts else "", repeatable)))


def _default(rule: Rule) -> str:
    if _is_number(rule) and rule.default is not None:
        return f"default {rule.default:g}"
    return f"default {rule.default}" if rule.choices and rule.default else ""


def _range(rule: Rule) -> str:
    if not _is_number(rule) or (rule.low, rule.high) == (float("-inf"), float("inf")) or rule.low < -_LARGE:
        return ""
    if rule.high >= _LARGE:
        return f"{'>' if rule.low_open else '≥'} {rule.low:g}"
    return rule.interval


def _is_number(rule: Rule) -> bool:
    return rule.kind in (int, float) and rule.entries is None
