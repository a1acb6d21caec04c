"""The fields of ``GenerationConfig`` (common.proto): ranges, defaults, and what this version's inferencer serves."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tunix_rt.contract.chat_templates import CONTROL_TOKENS_HELP, TEMPLATE_RULE
from tunix_rt.contract.rules import Rule
from tunix_rt.contract.weight_formats import WEIGHT_FORMATS
from tunix_rt.errors import Violations

MAX_NEW_TOKENS: Final = 8192
MAX_STOP_STRINGS: Final = 16
MAX_STOP_CHARACTERS: Final = 200
# The engine's slots have room for this many in addition to the model's own end-of-sequence tokens.
MAX_STOP_TOKEN_IDS: Final = 16
MAX_SYSTEM_PROMPT: Final = 50_000
# How prompts are rendered and tokenised, and what ends an answer: part of what a score means. Version 1, of configs
# that name none, read control tokens in texts, and ended turns with the tokenizer's end of sequence alone.
PROMPT_VERSION: Final = 2

_TOKEN_IDS: Final = "[0, 2147483647]"
GENERATION_RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "max_new_tokens": Rule(int, 256, f"[1, {MAX_NEW_TOKENS}]", help="Maximum number of generated tokens."),
        # In float32, logits divided by much more than the limit are all alike.
        "temperature": Rule(float, 0.0, "[0, 1000000]", help="Sampling temperature; 0: greedy."),
        "top_k": Rule(int, 0, _TOKEN_IDS, help="Sample from the k most likely tokens; 0: off."),
        "top_p": Rule(float, 1.0, "(0, 1]", help="Sample from the smallest set with this probability; 1: off."),
        "min_p": Rule(float, 0.0, "[0, 1)", help="Minimum probability relative to the most likely token; 0: off."),
        "repetition_penalty": Rule(float, 1.0, "(0, 10]", help="Divides the logits of tokens seen before; 1: off."),
        "seed": Rule(int, 0, "[-9223372036854775808, 9223372036854775807]", help="Seed of the sampling."),
        "stop": Rule(str, (), f"[1, {MAX_STOP_CHARACTERS}]", entries=MAX_STOP_STRINGS, help="End before this text."),
        "stop_token_ids": Rule(int, (), _TOKEN_IDS, entries=MAX_STOP_TOKEN_IDS, help="End at this token."),
        "system_prompt": Rule(
            str, "", f"[0, {MAX_SYSTEM_PROMPT}]", flags=("--system",), help="System prompt before the user's turn."
        ),
        "dtype": Rule(
            str, "float32", choices=("float32", "bfloat16"), served=("float32",), help="Type of the computation."
        ),
        "weight_format": Rule(str, "", choices=WEIGHT_FORMATS, help="Format of the weights; empty: float32."),
        "chat_template": Rule(str, "", **TEMPLATE_RULE),
        "parse_control_tokens": Rule(bool, False, help=CONTROL_TOKENS_HELP),
        "prompt_version": Rule(
            int, PROMPT_VERSION, f"[{PROMPT_VERSION}, {PROMPT_VERSION}]", help="How prompts are made."
        ),
    }
)
# Fields that configs of prompt version 1 do not have.
_OF_PROMPT_VERSION_2: Final = frozenset({"chat_template", "parse_control_tokens", "prompt_version"})


def check_generation(given: Mapping[str, Any], violations: Violations) -> None:
    """Add every value of ``given`` that no inferencer serves; fields that are not there have their defaults."""
    for name, rule in GENERATION_RULES.items():
        if name in given:
            rule.check(given[name], name, violations)


def of_this_version(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` as a new request: of this prompt version, unless it names one."""
    return {"prompt_version": PROMPT_VERSION} | {name: value for name, value in config.items() if value is not None}


def prompts_problem(stored_version: int | None) -> str | None:
    """Why prompts cannot be made here as a stored config's ``prompt_version`` says; None if they can."""
    version = stored_version or 1
    if version == PROMPT_VERSION:
        return None
    return f"its prompts are of version {version}; this release makes those of version {PROMPT_VERSION}"


def complete_generation(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with every default filled in and every value in its one type; ranges are not checked.

    Keys are the proto's field names; None counts as unset. The result is plain JSON: two configs that mean the same are
    equal. A config with none of the fields of prompt version 2 is of version 1 and stays without them.
    Raises `InvalidInput` for an unknown key or a value of another type.
    """
    violations = Violations()
    for name in sorted(config.keys() - GENERATION_RULES.keys()):
        violations.add(name, "is not a field of GenerationConfig")
    complete: dict[str, Any] = {}
    former = all(config.get(name) is None for name in _OF_PROMPT_VERSION_2)
    for name, rule in GENERATION_RULES.items():
        if former and name in _OF_PROMPT_VERSION_2:
            continue
        value = config.get(name)
        try:
            complete[name] = _typed(rule.default if value is None else value, rule)
        except (TypeError, ValueError) as error:
            violations.add(name, str(error))
    violations.raise_if_any()
    return complete


def _typed(value: Any, rule: Rule) -> Any:
    if rule.entries is not None:
        if isinstance(value, str):
            raise TypeError(f"must be a list, not {value!r}")
        return [rule.cast(entry) for entry in value]
    if rule.kind is float:
        # -0.0 == 0.0, but they are written differently.
        return float(value) + 0.0
    if rule.kind is bool:
        if not isinstance(value, bool):
            raise TypeError(f"must be true or false, not {value!r}")
        return value
    if rule.kind is int:
        if isinstance(value, bool) or (not isinstance(value, int) and int(value) != value):
            raise ValueError(f"must be an integer, not {value!r}")
        return int(value)
    if not isinstance(value, str):
        raise TypeError(f"must be a string, not {value!r}")
    return value
