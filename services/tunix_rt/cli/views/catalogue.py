"""Datasets, evalsets, models, aliases and baselines in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tunix_rt.cli import formats, printing
from tunix_rt.cli.views import evalset_quality

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.client.resources.datasets import CategoryStatistics, Dataset, Recipe
    from tunix_rt.client.resources.evalsets import EvalSet, EvalSetItem
    from tunix_rt.client.resources.gates import Baseline
    from tunix_rt.client.resources.models import Alias, ModelVersion, Promotion, SigningKey, Waiver


def datasets(items: Iterable[Dataset]) -> RenderableType:
    rows = [
        (
            item.id,
            item.key,
            item.manifest.trace_count,
            item.manifest.token_lengths.total,
            item.artifact.digest[7:19],
            formats.local_time(item.create_time),
            formats.tags(item.tags),
        )
        for item in items
    ]
    columns = ["id", "key", "traces", "tokens", "digest", "created", "tags"]
    return printing.table(columns, rows, numbers=["traces", "tokens"])


def dataset(item: Dataset) -> list[RenderableType]:
    manifest = item.manifest
    lengths = manifest.token_lengths
    dropped = (
        f"{manifest.dropped_over_budget} over budget, {manifest.dropped_contaminated} contaminated, "
        f"{manifest.dropped_duplicates} duplicates"
    )
    rows: list[tuple[str, object]] = [
        ("dataset", f"{item.id}  {item.key}"),
        ("digest", item.artifact.digest),
        ("uri", formats.escaped(item.artifact.uri)),
        ("size", formats.size_text(item.artifact.size_bytes)),
        ("traces", manifest.trace_count),
        ("dropped", dropped),
        (
            "tokens",
            f"{lengths.total} ({lengths.tokenizer}): {lengths.min}…{lengths.max} a trace, mean {lengths.mean:.1f}, "
            f"p50 {lengths.p50:g}, p95 {lengths.p95:g}",
        ),
        ("near duplicates", manifest.near_duplicates if manifest.category_statistics else ""),
        ("categories", "" if manifest.category_statistics else formats.counts(manifest.categories)),
        ("selection", f"{formats.escaped(manifest.selection_strategy)}, seed {manifest.seed}"),
        ("build id", manifest.build_id),
        ("created", formats.local_time(item.create_time)),
        ("tags", formats.tags(item.tags)),
    ]
    parts = [printing.fields(rows)]
    if manifest.category_statistics:
        parts.append(_categories(manifest.category_statistics))
    if manifest.contamination:
        overlaps = [(c.evalset_id, c.exact_prompts, c.ngram_items, c.ngram_size) for c in manifest.contamination]
        parts.append(printing.table(["evalset id", "exact prompts", "items sharing an n-gram", "n"], overlaps))
    return parts


def _categories(items: Iterable[CategoryStatistics]) -> RenderableType:
    rows = [
        (
            formats.escaped(item.category, 40),
            item.trace_count,
            f"{item.token_lengths.mean:.1f}",
            f"{item.token_lengths.p95:g}",
            item.token_lengths.max,
            f"{item.mean_steps:.1f}",
        )
        for item in items
    ]
    columns = ["category", "traces", "tokens (mean)", "p95", "max", "steps (mean)"]
    return printing.table(columns, rows, numbers=columns[1:])


def recipes(items: Iterable[Recipe]) -> RenderableType:
    rows = [(item.name, item.default_size, item.default_seed, formats.escaped(item.description)) for item in items]
    return printing.table(["recipe", "size", "seed", "what it is"], rows, numbers=["size", "seed"])


def evalsets(items: Iterable[EvalSet]) -> RenderableType:
    rows = [
        (
            item.id,
            item.key,
            item.item_count,
            formats.counts(item.sections),
            item.digest[7:19],
            formats.local_time(item.create_time),
            formats.escaped(item.description, 60),
        )
        for item in items
    ]
    return printing.table(
        ["id", "key", "items", "sections", "digest", "created", "description"], rows, numbers=["items"]
    )


def evalset(item: EvalSet) -> list[RenderableType]:
    rows: list[tuple[str, object]] = [
        ("evalset", f"{item.id}  {item.key}"),
        ("description", formats.escaped(item.description)),
        ("digest", item.digest),
        ("items", item.item_count),
        ("sections", formats.counts(item.sections)),
        ("categories", formats.counts(item.categories)),
        ("difficulties", formats.counts(item.difficulties)),
        ("answer types", formats.counts(item.answer_types)),
        ("created", formats.local_time(item.create_time)),
        ("tags", formats.tags(item.tags)),
    ]
    return [printing.fields(rows), *evalset_quality.resolution(item.detectable)]


def evalset_items(items: Iterable[EvalSetItem]) -> RenderableType:
    rows = [
        (
            formats.escaped(item.id),
            item.section.lower(),
            formats.escaped(item.category),
            item.difficulty.lower(),
            item.answer_type.lower(),
            formats.escaped(item.expected_answer, 30),
            formats.escaped(item.prompt, 90),
        )
        for item in items
    ]
    return printing.table(["item", "section", "category", "difficulty", "type", "expected", "prompt"], rows)


def models(items: Iterable[ModelVersion]) -> RenderableType:
    rows = [
        (
            item.id,
            f"{formats.escaped(item.name)}/{item.version}",
            item.format,
            formats.size_text(item.artifact.size_bytes),
            item.lineage.run_id,
            item.artifact.digest[7:19],
            formats.local_time(item.create_time),
        )
        for item in items
    ]
    return printing.table(["id", "version", "format", "size", "run id", "digest", "created"], rows, numbers=["size"])


def model(item: ModelVersion) -> RenderableType:
    lineage = item.lineage
    files = ", ".join(f"{formats.escaped(f.path)} ({formats.size_text(f.size_bytes)})" for f in item.artifact.files)
    rows: list[tuple[str, object]] = [
        ("model", f"{item.id}  {formats.escaped(item.name)}/{item.version}"),
        ("format", item.format),
        ("reference", formats.escaped(item.reference)),
        ("digest", item.artifact.digest),
        ("files", files),
        ("run", f"{lineage.run_id} attempt {lineage.attempt}, step {lineage.step}" if lineage.run_id else ""),
        ("dataset", lineage.dataset_id),
        ("base model", formats.escaped(lineage.base_model)),
        ("code", formats.escaped(lineage.code_revision)),
        ("created", formats.local_time(item.create_time)),
        ("tags", formats.tags(item.tags)),
    ]
    rows += [
        (
            "unpinned" if index == 0 else "",
            f"{each.digest} by {formats.escaped(each.actor)}, {formats.local_time(each.time)}: "
            f"{formats.escaped(each.reason)}",
        )
        for index, each in enumerate(item.unpinnings)
    ]
    return printing.fields(rows)


def merged(document: Mapping[str, Any]) -> RenderableType:
    """Where an adapter's merged model was written."""
    return printing.fields(
        [
            ("directory", formats.escaped(document["out"])),
            ("digest", document["digest"]),
            ("size", formats.size_text(document["size_bytes"])),
        ]
    )


def exported(document: Mapping[str, Any]) -> RenderableType:
    """Where a model was written, and what."""
    return printing.fields(
        [
            ("directory", formats.escaped(document["out"])),
            ("digest", document["digest"]),
            ("size", formats.size_text(document["size_bytes"])),
            ("files", formats.escaped(", ".join(document["files"]))),
        ]
    )


def aliases(items: Iterable[Alias]) -> RenderableType:
    rows = [
        (
            f"{formats.escaped(item.model_name)}@{formats.escaped(item.alias)}",
            item.model_id,
            item.gate_policy_id or "[dim]none[/dim]",
            formats.local_time(item.update_time),
        )
        for item in items
    ]
    return printing.table(["alias", "model id", "guarded by", "moved"], rows)


def promotions(items: Iterable[Promotion]) -> RenderableType:
    rows = [
        (
            formats.local_time(item.create_time),
            formats.escaped(item.alias),
            *_change(item),
            _why(item),
            formats.escaped(item.actor),
            formats.escaped(item.note),
        )
        for item in items
    ]
    return printing.table(["time", "alias", "from", "to", "because", "by", ""], rows)


def _change(item: Promotion) -> tuple[str, str]:
    """From what to what: models, or guards."""
    if item.from_model_id != item.to_model_id:
        return item.from_model_id or "–", item.to_model_id
    return f"guard {item.from_gate_policy_id or '–'}", f"guard {item.to_gate_policy_id or '–'}"


def _why(item: Promotion) -> str:
    waived = formats.escaped(item.waiver_reason)
    if waived and item.waiver_requested_by:
        return f"waived: {waived} (asked for by {formats.escaped(item.waiver_requested_by)})"
    return item.gate_decision_id or (f"waived: {waived}" if waived else formats.escaped(item.reason))


def waivers(items: Iterable[Waiver]) -> RenderableType:
    rows = [
        (
            item.id,
            formats.escaped(f"{item.model_name}@{item.alias}"),
            item.model_id or f"guard {item.gate_policy_id or '–'}",
            formats.escaped(item.reason, 60),
            formats.escaped(item.requested_by),
            formats.local_time(item.create_time),
        )
        for item in items
    ]
    return printing.table(["waiver", "alias", "to", "because", "asked for by", "when"], rows)


def signing_keys(items: Iterable[SigningKey]) -> RenderableType:
    rows = [
        (item.id, item.public_key, formats.local_time(item.create_time), "current" if item.current else "")
        for item in items
    ]
    return printing.table(["key", "public key", "since", ""], rows)


def baselines(items: Iterable[Baseline]) -> RenderableType:
    rows = [
        (
            formats.escaped(item.name),
            item.revision,
            item.evaluation_id,
            item.run_id,
            formats.escaped(item.identity.scorer_version),
            formats.escaped(item.locked_by),
            formats.local_time(item.create_time),
            formats.escaped(item.note, 60),
        )
        for item in items
    ]
    columns = ["baseline", "revision", "evaluation id", "run id", "scorer", "locked by", "locked", "note"]
    return printing.table(columns, rows, numbers=["revision"])
