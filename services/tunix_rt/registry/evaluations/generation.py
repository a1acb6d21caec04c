"""Generation configs: the ranges that common.proto names, and its defaults, resolved once so that a stored config has
every field set. Does not know how tokens are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from tunix_rt.errors import Violations
from tunix_rt.quality.identity import complete_generation
from tunix_rt.weight_formats import WEIGHT_FORMAT_RULE, WEIGHT_FORMATS

MAX_STOPS: Final = 16
MAX_STOP_LENGTH: Final = 200
MAX_SYSTEM_PROMPT: Final = 50_000


def resolve_generation(given: Mapping[str, Any], violations: Violations) -> dict[str, Any]:
    """``given`` with every unset field at its default; what is out of range goes into ``violations``.

    ``given`` holds only the fields that the caller set, under their names in `GenerationConfig`. The result is plain
    JSON: two configs that mean the same have the same canonical text, whether or not a default was spelt out.
    """
    config = complete_generation(given)
    check = violations.check
    check(1 <= config["max_new_tokens"] <= 8192, "max_new_tokens", "must be from 1 to 8192")
    temperature = config["temperature"]
    check(math.isfinite(temperature) and temperature >= 0, "temperature", "must be finite and at least 0")
    check(config["top_k"] >= 0, "top_k", "must be at least 0 (0 is off)")
    check(0 < config["top_p"] <= 1, "top_p", "must be in (0, 1]")
    check(0 <= config["min_p"] < 1, "min_p", "must be in [0, 1)")
    check(0 < config["repetition_penalty"] <= 10, "repetition_penalty", "must be in (0, 10]")
    check(len(config["stop"]) <= MAX_STOPS, "stop", f"at most {MAX_STOPS} stop sequences")
    for index, text in enumerate(config["stop"]):
        check(1 <= len(text) <= MAX_STOP_LENGTH, f"stop[{index}]", f"must have 1 to {MAX_STOP_LENGTH} characters")
    for index, token in enumerate(config["stop_token_ids"]):
        check(token >= 0, f"stop_token_ids[{index}]", "must be at least 0")
    check(len(config["system_prompt"]) <= MAX_SYSTEM_PROMPT, "system_prompt", f"at most {MAX_SYSTEM_PROMPT} characters")
    check(config["dtype"] in ("float32", "bfloat16"), "dtype", 'must be "float32" or "bfloat16"')
    check(config["weight_format"] in WEIGHT_FORMATS, "weight_format", WEIGHT_FORMAT_RULE)
    return config
