"""Builds dataset versions, from a recipe or from imported lines: canonical JSONL, its digest and its manifest.

Traces over the token budget, contaminated traces and duplicates are dropped and counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from tunix_rt.contract.digests import canonical_json, sha256_digest
from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.traces.contamination import Contamination, Prompts, measure_contamination
from tunix_rt.traces.lengths import CategoryStatistics, TokenLengths, category_statistics, token_lengths, trace_tokens
from tunix_rt.traces.near_duplicates import earlier_neighbours
from tunix_rt.traces.normalise import normalise_prompt
from tunix_rt.traces.recipes import RECIPES, draw_traces
from tunix_rt.traces.schema import Trace, canonical_line


@dataclass(frozen=True)
class Manifest:
    """The composition of a dataset version; fields as in ``DatasetManifest`` of datasets.proto."""

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
    provenance: dict[str, Any] = field(default_factory=dict)
    contamination: tuple[Contamination, ...] = ()
    category_statistics: tuple[CategoryStatistics, ...] = ()
    near_duplicates: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The manifest as a JSON object."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class BuiltDataset:
    """A dataset version that is not stored yet. ``digest`` is the digest of ``jsonl``."""

    traces: tuple[Trace, ...]
    jsonl: bytes
    digest: str
    manifest: Manifest


def canonical_jsonl(traces: Iterable[Trace]) -> bytes:
    """UTF-8 JSONL, one canonical object per line, each line ending with a newline."""
    return _jsonl(map(canonical_line, traces))


def _jsonl(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


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
    """Build the dataset of ``recipe``. Equal arguments give an equal digest.

    ``decontaminate``: prompts that are excluded (compared after normalisation). ``measure_against``: evalsets whose
    overlap is only reported; the overlap with ``decontaminate`` is reported too. Raises `InvalidInput`.
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
        canonical_jsonl(drawn.traces),
        key=key or recipe,
        dropped=(drawn.dropped_over_budget, drawn.dropped_contaminated, drawn.dropped_duplicates),
        filters=_filters(max_trace_tokens, kept_out),
        strategy="recipe_order_distinct_prompts",
        seed=effective_seed,
        provenance={"recipe": recipe, "requested_size": RECIPES[recipe].default_size if size is None else size},
        evalsets={**(measure_against or {}), **kept_out},
    )


def build_from_traces(
    traces: Iterable[Trace],
    *,
    key: str,
    max_trace_tokens: int | None = None,
    decontaminate: Prompts | None = None,
    measure_against: Prompts | None = None,
    source: str = "import",
) -> BuiltDataset:
    """Build a dataset of ``traces``, in their order.

    Identical traces are kept once; different traces of one prompt are all kept. Raises `InvalidInput` when the filters
    drop every trace.
    """
    kept_out = decontaminate or {}
    excluded = {normalise_prompt(prompt) for prompts in kept_out.values() for prompt in prompts}
    kept: dict[str, Trace] = {}
    over_budget = contaminated = duplicates = 0
    for trace in traces:
        line = canonical_line(trace)
        if line in kept:
            duplicates += 1
        elif excluded and not excluded.isdisjoint(map(normalise_prompt, trace.questions)):
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
        _jsonl(kept),
        key=key,
        dropped=(over_budget, contaminated, duplicates),
        filters=_filters(max_trace_tokens, kept_out),
        strategy="all_in_file_order",
        seed=0,
        provenance={"source": source},
        evalsets={**(measure_against or {}), **kept_out},
    )


def _filters(max_trace_tokens: int | None, kept_out: Prompts) -> dict[str, Any]:
    filters: dict[str, Any] = {}
    if max_trace_tokens is not None:
        filters["max_trace_tokens"] = max_trace_tokens
    if kept_out:
        filters["decontaminate_evalset_ids"] = sorted(kept_out)
    return filters


def _assemble(
    traces: tuple[Trace, ...],
    jsonl: bytes,
    *,
    key: str,
    dropped: tuple[int, int, int],
    filters: dict[str, Any],
    strategy: str,
    seed: int,
    provenance: dict[str, Any],
    evalsets: Prompts,
) -> BuiltDataset:
    digest = sha256_digest(jsonl)
    identity = {"provenance": provenance, "filters": filters, "strategy": strategy, "seed": seed, "digest": digest}
    over_budget, contaminated, duplicates = dropped
    lengths = [trace_tokens(trace) for trace in traces]
    by_category = category_statistics(traces, lengths)
    manifest = Manifest(
        key=key,
        build_id=sha256_digest(canonical_json(identity)),
        trace_count=len(traces),
        dropped_over_budget=over_budget,
        dropped_contaminated=contaminated,
        dropped_duplicates=duplicates,
        token_lengths=token_lengths(lengths),
        categories={each.category: each.trace_count for each in by_category},
        filters=filters,
        selection_strategy=strategy,
        seed=seed,
        provenance=provenance,
        contamination=measure_contamination(traces, evalsets),
        category_statistics=by_category,
        near_duplicates=len(earlier_neighbours([trace.asked for trace in traces])),
    )
    return BuiltDataset(traces=traces, jsonl=jsonl, digest=digest, manifest=manifest)
