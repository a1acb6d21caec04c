"""Trace lengths in tokens, in total and by category."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunix_rt.quality.tokens import TOKENIZER_NAME, count_tokens
from tunix_rt.traces.render import render_completion
from tunix_rt.traces.schema import Trace

UNCATEGORISED = "uncategorised"


@dataclass(frozen=True)
class TokenLengths:
    """Length of prompt plus completion over some traces, in tokens of ``tokenizer``."""

    tokenizer: str
    min: int
    max: int
    mean: float
    p50: float
    p95: float
    total: int


@dataclass(frozen=True)
class CategoryStatistics:
    """The traces of one category; ``mean_steps`` is their mean number of steps."""

    category: str
    trace_count: int
    token_lengths: TokenLengths
    mean_steps: float


@dataclass(frozen=True)
class Bin:
    """The number of lengths from ``low`` to ``high``, both included."""

    low: int
    high: int
    count: int


def trace_tokens(trace: Trace) -> int:
    """`regex-v1` tokens of all turns together: the training cost of a trace."""
    earlier = (trace.system, *(turn.content for turn in trace.history)) if trace.system or trace.history else ()
    return sum(map(count_tokens, (*earlier, trace.prompt, render_completion(trace))))


def category_of(trace: Trace) -> str:
    """The category in the trace's ``meta``, or "uncategorised"."""
    return str(trace.meta.get("category", "")) or UNCATEGORISED


def token_lengths(lengths: Sequence[int]) -> TokenLengths:
    """Statistics of at least one length; percentiles by linear interpolation between order statistics."""
    ordered = sorted(lengths)
    return TokenLengths(
        tokenizer=TOKENIZER_NAME,
        min=ordered[0],
        max=ordered[-1],
        mean=sum(ordered) / len(ordered),
        p50=_percentile(ordered, 0.50),
        p95=_percentile(ordered, 0.95),
        total=sum(ordered),
    )


def category_statistics(traces: Sequence[Trace], lengths: Sequence[int]) -> tuple[CategoryStatistics, ...]:
    """Statistics by category, sorted by name. ``lengths`` are the lengths of ``traces``, in the same order."""
    members: dict[str, list[int]] = {}
    for position, trace in enumerate(traces):
        members.setdefault(category_of(trace), []).append(position)
    return tuple(
        CategoryStatistics(
            category=category,
            trace_count=len(positions),
            token_lengths=token_lengths([lengths[position] for position in positions]),
            mean_steps=sum(len(traces[position].steps) for position in positions) / len(positions),
        )
        for category, positions in sorted(members.items())
    )


def histogram(lengths: Sequence[int], bins: int = 12) -> tuple[Bin, ...]:
    """At most ``bins`` bins of equal width that cover every length, in ascending order; () without lengths."""
    if not lengths:
        return ()
    low = min(lengths)
    width = math.ceil((max(lengths) - low + 1) / bins)
    counts = [0] * ((max(lengths) - low) // width + 1)
    for length in lengths:
        counts[(length - low) // width] += 1
    return tuple(
        Bin(low + number * width, low + (number + 1) * width - 1, count) for number, count in enumerate(counts)
    )


def _percentile(ordered: Sequence[int], q: float) -> float:
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])
