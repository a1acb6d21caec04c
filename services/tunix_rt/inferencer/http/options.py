"""The fields common to chat and text completions: sampling, stop strings, choices, streaming."""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from tunix_rt.contract.generation import GENERATION_RULES, MAX_NEW_TOKENS, MAX_STOP_CHARACTERS, MAX_STOP_STRINGS
from tunix_rt.inferencer.generation import GenerationRequest, Sampling
from tunix_rt.inferencer.http.fields import Fields, is_text

MAX_CHOICES = 128
# The default of OpenAI's API; the gRPC default is 0.
DEFAULT_TEMPERATURE = 1.0
_INT64 = 1 << 63


@dataclass(frozen=True)
class Options:
    """``sampling`` is that of choice 0; ``max_tokens`` is None if not set."""

    model: str
    sampling: Sampling
    max_tokens: int | None
    stop: tuple[str, ...]
    n: int
    stream: bool
    include_usage: bool
    user: str


def random_seed() -> int:
    return secrets.randbits(63)


def seed_of_choice(seed: int, index: int) -> int:
    """Choice 0 has the seed itself, the others the first 64 bits of sha256 over seed and index (big-endian int64)."""
    if index == 0:
        return seed
    digest = hashlib.sha256(struct.pack(">qq", seed, index)).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def choices_of(generation: GenerationRequest, options: Options) -> list[GenerationRequest]:
    """``generation`` once per choice, with the sampling and stop strings of the options."""
    return [
        replace(
            generation,
            sampling=replace(options.sampling, seed=seed_of_choice(options.sampling.seed, index)),
            stop=options.stop,
        )
        for index in range(options.n)
    ]


def read_options(fields: Fields, *, least_tokens: int, draw_seed: Callable[[], int] = random_seed) -> Options:
    """The common fields. ``least_tokens`` is the minimum of ``max_tokens``. A missing seed is drawn."""
    stream = fields.flag("stream")
    return Options(
        model=fields.text("model", required=True),
        sampling=_read_sampling(fields, draw_seed),
        max_tokens=_read_max_tokens(fields, least_tokens),
        stop=_read_stop(fields),
        n=fields.integer("n", 1, 1, MAX_CHOICES),
        stream=stream,
        include_usage=_read_stream_options(fields, stream),
        user=fields.text("user"),
    )


def refuse_common(fields: Fields) -> None:
    """Reject fields of OpenAI's API that neither endpoint supports, unless their value has no effect."""
    fields.only("frequency_penalty", 0, 0.0)
    fields.only("presence_penalty", 0, 0.0)
    fields.only("logit_bias", {})


def _read_sampling(fields: Fields, draw_seed: Callable[[], int]) -> Sampling:
    seed = fields.integer("seed", 0, -_INT64, _INT64 - 1)
    top_k = fields.integer("top_k", 0, -1, (1 << 31) - 1)
    return Sampling(
        temperature=fields.number("temperature", DEFAULT_TEMPERATURE, GENERATION_RULES["temperature"]),
        top_k=max(top_k, 0),  # other servers write "off" as -1
        top_p=fields.number("top_p", 1.0, GENERATION_RULES["top_p"]),
        min_p=fields.number("min_p", 0.0, GENERATION_RULES["min_p"]),
        repetition_penalty=fields.number("repetition_penalty", 1.0, GENERATION_RULES["repetition_penalty"]),
        seed=draw_seed() if fields.take("seed") is None else seed,
    )


def _read_max_tokens(fields: Fields, least: int) -> int | None:
    """``max_completion_tokens``, or its older name ``max_tokens``."""
    given = [name for name in ("max_completion_tokens", "max_tokens") if fields.take(name) is not None]
    values = [fields.integer(name, MAX_NEW_TOKENS, least, MAX_NEW_TOKENS) for name in given]
    same = len(set(values)) <= 1
    fields.bad.check(same, "max_tokens", "contradicts max_completion_tokens; set only one of them")
    return values[0] if values else None


def _read_stop(fields: Fields) -> tuple[str, ...]:
    value = fields.take("stop")
    if value is None:
        return ()
    stops = value if isinstance(value, list) else [value]
    most, longest = MAX_STOP_STRINGS, MAX_STOP_CHARACTERS
    ok = len(stops) <= most and all(is_text(stop) and 1 <= len(stop) <= longest for stop in stops)
    rule = f"must be a string, or at most {most} of them, each of 1..{longest} characters"
    return tuple(stops) if fields.bad.check(ok, "stop", rule) else ()


def _read_stream_options(fields: Fields, stream: bool) -> bool:
    value = fields.take("stream_options")
    if value is None:
        return False
    if not fields.bad.check(isinstance(value, dict), "stream_options", "must be an object"):
        return False
    fields.bad.check(stream, "stream_options", "requires stream = true")
    nested = Fields(value, fields.bad.under("stream_options"))
    include_usage = nested.flag("include_usage")
    nested.only("include_obfuscation", False)
    nested.refuse_others()
    return include_usage
