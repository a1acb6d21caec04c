"""Dataset versions: canonical JSONL, its digest, and the manifest that says where every trace came from or went.

Owns building (from a recipe or from imported lines), the token budget, decontamination and the statistics. Stores
nothing and registers nothing; evalsets are handed in as their prompts.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.quality.tokens import TOKENIZER_NAME, count_tokens
from tunix_rt.traces.normalise import ngrams, normalise_prompt
from tunix_rt.traces.recipes import RECIPES, draw_traces
from tunix_rt.traces.render import render_completion
from tunix_rt.traces.schema import Trace, canonical_line, parse_traces

NGRAM_SIZE = 13  # Brown et al. 2020 (GPT-3), appendix C

Prompts = Mapping[str, Sequence[str]]
"""Prompts of each evalset, by evalset id."""


@dataclass(frozen=True)
class TokenLengths:
    """Length of prompt plus completion over the dataset, in tokens of ``tokenizer``."""

    tokenizer: str
    min: int
    max: int
    mean: float
    p50: float
    p95: float
    total: int


@dataclass(frozen=True)
class Contamination:
    """Overlap with one evalset: items whose prompt is in the dataset, and items that share a run of words with it."""

    evalset_id: str
    exact_prompts: int
    ngram_items: int
    ngram_size: int


@dataclass(frozen=True)
class Manifest:
    """What a dataset version is made of; the fields of ``DatasetManifest`` in datasets.proto."""

    key: str
    build_id: str
    trace_count: int
    dropped_over_budget: int
    dropped_contaminated: int
    dropped_duplicates: int
    token_lengths: TokenLengths
    categories: dict[str, int]
    filters: dict[str, Any]
    selection_strategy: str
    seed: int
    parent_dataset_ids: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    contamination: tuple[Contamination, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The manifest as a JSON object."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class BuiltDataset:
    """A dataset version that is not stored yet; ``digest`` is that of ``jsonl``."""

    traces: tuple[Trace, ...]
    jsonl: bytes
    digest: str
    manifest: Manifest


def canonical_jsonl(traces: Iterable[Trace]) -> bytes:
    """UTF-8 JSONL, one canonical object per line, each line ended by a newline."""
    return "".join(canonical_line(trace) + "\n" for trace in traces).encode()


def content_digest(data: bytes) -> str:
    """``sha256:`` and the hex digest of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def trace_tokens(trace: Trace) -> int:
    """`regex-v1` tokens of prompt and completion together: what a trace costs in training."""
    return count_tokens(trace.prompt) + count_tokens(render_completion(trace))


def build_from_recipe(
    recipe: str,
    *,
    key: str | None = None,
    size: int | None = None,
    seed: int | None = None,
    max_trace_tokens: int | None = None,
    decontaminate: Prompts | None = None,
    measure_against: Prompts | None = None,
) -> BuiltDataset:
    """The dataset that ``recipe`` makes; equal arguments give an equal digest.

    ``decontaminate``: prompts that no trace may have (compared after normalisation). ``measure_against``: evalsets
    whose overlap is only reported; those of ``decontaminate`` are reported too. Raises `InvalidInput`.
    """
    kept_out = decontaminate or {}
    drawn = draw_traces(
        recipe,
        size,
        seed,
        exclude_prompts=[prompt for prompts in kept_out.values() for prompt in prompts],
        keep=None if max_trace_tokens is None else lambda trace: trace_tokens(trace) <= max_trace_tokens,
    )
    effective_seed = RECIPES[recipe].default_seed if seed is None else seed
    return _assemble(
        drawn.traces,
        key=key or recipe,
        dropped=(drawn.dropped_over_budget, drawn.dropped_contaminated, drawn.dropped_duplicates),
        filters=_filters(max_trace_tokens, kept_out),
        strategy="recipe_order_distinct_prompts",
        seed=effective_seed,
        provenance={"recipe": recipe, "requested_size": RECIPES[recipe].default_size if size is None else size},
        evalsets={**(measure_against or {}), **kept_out},
    )


def build_from_lines(
    lines: Iterable[str],
    *,
    key: str,
    max_trace_tokens: int | None = None,
    decontaminate: Prompts | None = None,
    measure_against: Prompts | None = None,
    source: str = "import",
) -> BuiltDataset:
    """The dataset of imported trace JSONL, in its own order.

    Identical traces are kept once; several traces of one prompt are all kept. Raises `InvalidInput` naming every bad
    line, or saying that the filters left nothing.
    """
    kept_out = decontaminate or {}
    excluded = {normalise_prompt(prompt) for prompts in kept_out.values() for prompt in prompts}
    kept: dict[str, Trace] = {}
    over_budget = contaminated = duplicates = 0
    for trace in parse_traces(lines):
        line = canonical_line(trace)
        if line in kept:
            duplicates += 1
        elif normalise_prompt(trace.prompt) in excluded:
            contaminated += 1
        elif max_trace_tokens is not None and trace_tokens(trace) > max_trace_tokens:
            over_budget += 1
        else:
            kept[line] = trace
    if not kept:
        reason = f"no trace is left: {over_budget} exceed the token budget, {contaminated} are in an evalset"
        raise InvalidInput([FieldViolation("jsonl", reason)])
    return _assemble(
        tuple(kept.values()),
        key=key,
        dropped=(over_budget, contaminated, duplicates),
        filters=_filters(max_trace_tokens, kept_out),
        strategy="all_in_file_order",
        seed=0,
        provenance={"source": source},
        evalsets={**(measure_against or {}), **kept_out},
    )


def measure_contamination(traces: Sequence[Trace], evalsets: Prompts) -> tuple[Contamination, ...]:
    """Overlap of the dataset with each evalset, in the order of their ids."""
    exact = {normalise_prompt(trace.prompt) for trace in traces}
    runs = {run for trace in traces for run in ngrams(trace.prompt, NGRAM_SIZE)}
    return tuple(
        Contamination(
            evalset_id=evalset_id,
            exact_prompts=sum(normalise_prompt(prompt) in exact for prompt in prompts),
            ngram_items=sum(not runs.isdisjoint(ngrams(prompt, NGRAM_SIZE)) for prompt in prompts),
            ngram_size=NGRAM_SIZE,
        )
        for evalset_id, prompts in sorted(evalsets.items())
    )


def token_lengths(traces: Sequence[Trace]) -> TokenLengths:
    """Statistics of `trace_tokens`; percentiles by linear interpolation between order statistics."""
    lengths = sorted(trace_tokens(trace) for trace in traces)
    return TokenLengths(
        tokenizer=TOKENIZER_NAME,
        min=lengths[0],
        max=lengths[-1],
        mean=sum(lengths) / len(lengths),
        p50=_percentile(lengths, 0.50),
        p95=_percentile(lengths, 0.95),
        total=sum(lengths),
    )


def _percentile(ordered: Sequence[int], q: float) -> float:
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def _filters(max_trace_tokens: int | None, kept_out: Prompts) -> dict[str, Any]:
    filters: dict[str, Any] = {}
    if max_trace_tokens is not None:
        filters["max_trace_tokens"] = max_trace_tokens
    if kept_out:
        filters["decontaminate_evalset_ids"] = sorted(kept_out)
    return filters


def _assemble(
    traces: tuple[Trace, ...],
    *,
    key: str,
    dropped: tuple[int, int, int],
    filters: dict[str, Any],
    strategy: str,
    seed: int,
    provenance: dict[str, Any],
    evalsets: Prompts,
) -> BuiltDataset:
    jsonl = canonical_jsonl(traces)
    digest = content_digest(jsonl)
    identity = {"provenance": provenance, "filters": filters, "strategy": strategy, "seed": seed, "digest": digest}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    over_budget, contaminated, duplicates = dropped
    categories = Counter(str(trace.meta.get("category", "")) or "uncategorised" for trace in traces)
    manifest = Manifest(
        key=key,
        build_id=content_digest(canonical.encode()),
        trace_count=len(traces),
        dropped_over_budget=over_budget,
        dropped_contaminated=contaminated,
        dropped_duplicates=duplicates,
        token_lengths=token_lengths(traces),
        categories=dict(sorted(categories.items())),
        filters=filters,
        selection_strategy=strategy,
        seed=seed,
        provenance=provenance,
        contamination=measure_contamination(traces, evalsets),
    )
    return BuiltDataset(traces=traces, jsonl=jsonl, digest=digest, manifest=manifest)
