"""Loaded models and scored texts in a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tunix_rt.cli import formats, printing

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.client import TextLogprobs
    from tunix_rt.client.resources.inference import LoadedAdapter, LoadedModel


def loaded(models: Iterable[LoadedModel]) -> RenderableType:
    rows = [
        (
            model.handle,
            formats.escaped(model.reference),
            model.family,
            model.weight_format or "float32",
            f"{model.parameter_count:,}",
            model.context_length,
            model.slots,
            formats.size_text(model.memory_bytes),
            formats.seconds_text(model.load_seconds),
        )
        for model in models
    ]
    columns = ["handle", "reference", "family", "weights", "parameters", "context", "slots", "memory", "loaded in"]
    return printing.table(columns, rows, numbers=columns[4:])


def adapters(loaded: Iterable[LoadedAdapter]) -> RenderableType:
    rows = [
        (
            adapter.handle,
            formats.escaped(adapter.reference),
            adapter.model,
            adapter.rank,
            formats.size_text(adapter.memory_bytes),
            formats.seconds_text(adapter.load_seconds),
        )
        for adapter in loaded
    ]
    columns = ["adapter", "reference", "of model", "rank", "memory", "loaded in"]
    return printing.table(columns, rows, numbers=columns[3:])


def scored(score: TextLogprobs) -> list[RenderableType]:
    """A row for each token that has a score, then what they come to."""
    runners_up = any(token.top for token in score.logprobs)
    rows = [
        (
            token.token_id,
            _shown(token.token),
            f"{token.logprob:.4f}",
            f"{math.exp(token.logprob):.2%}",
            *([", ".join(f"{_shown(top.token)} {top.logprob:.2f}" for top in token.top)] if runners_up else []),
        )
        for token in score.logprobs
    ]
    columns = ["id", "token", "log-probability", "probability", *(["likeliest"] if runners_up else [])]
    sums: list[tuple[str, object]] = [
        ("tokens scored", len(rows)),
        ("total", f"{score.total:.4f}"),
        ("per token", "" if score.mean is None else f"{score.mean:.4f}"),
        ("perplexity", "" if score.mean is None else formats.number(math.exp(-score.mean))),
    ]
    return [printing.table(columns, rows, numbers=["id", *columns[2:4]]), printing.fields(sums)]


def _shown(text: str) -> str:
    """A token's text with its spaces and line ends to be seen."""
    return formats.escaped(repr(text))
