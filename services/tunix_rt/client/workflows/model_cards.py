"""The model card of a model version: where it comes from, how it was trained, and what it scored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tunix_rt.contract.enums import ModelFormat

if TYPE_CHECKING:
    from tunix_rt.client.resources.evaluations import Evaluation
    from tunix_rt.client.resources.models import ModelVersion
    from tunix_rt.client.resources.runs import Run

_HUB = "hf://"


def model_card(
    model: ModelVersion[Any], run: Run[Any] | None = None, evaluations: Iterable[Evaluation[Any]] = ()
) -> str:
    """The card as Markdown with the hub's metadata block: lineage, hyperparameters of ``run``, and the scorecards of
    ``evaluations`` that have one. It holds no time, so the same model has the same card."""
    sections = [_metadata(model), f"# {_plain(model.name)}/{model.version}", *_table(("", ""), _lineage(model, run))]
    if run is not None:
        rows = _flat(run.spec.hyperparameters.to_dict())
        sections += ["## Hyperparameters", *_table(("name", "value"), rows)]
    scores = [row for evaluation in evaluations if (row := _score(evaluation)) is not None]
    if scores:
        head = ("evalset", "score", "95 % interval", "scored", "verdict", "evaluation")
        sections += ["## Scores", *_table(head, scores)]
    return "\n\n".join(sections) + "\n"


def _metadata(model: ModelVersion[Any]) -> str:
    base = model.lineage.base_model
    lines = ["---", f"library_name: {'peft' if model.format is ModelFormat.PEFT_ADAPTER else 'transformers'}"]
    if base.startswith(_HUB):
        lines.append(f"base_model: {json.dumps(base.removeprefix(_HUB).partition('@')[0])}")
    return "\n".join([*lines, "tags: [tunix-rt]", "---"])


def _lineage(model: ModelVersion[Any], run: Run[Any] | None) -> Iterator[tuple[str, str]]:
    lineage, details = model.lineage, model.lineage.details
    yield "model version", model.id
    yield "digest", model.artifact.digest
    if not lineage.run_id:
        yield "reference", model.reference
        return
    yield "base model", _with(lineage.base_model, details.get("base_model_digest", ""))
    yield "dataset", _with(lineage.dataset_id, details.get("dataset_digest", ""))
    name = f" {run.display_name}" if run is not None and run.display_name else ""
    yield "run", f"{lineage.run_id}{name}, attempt {lineage.attempt}, step {lineage.step}"
    yield "code", lineage.code_revision
    shown = ("examples_trained", "examples_held_out", "examples_dropped", "examples_truncated", "best_step")
    for key in shown:
        if key in details:
            yield key.replace("_", " "), details[key]


def _score(evaluation: Evaluation[Any]) -> tuple[str, ...] | None:
    card = evaluation.scorecard
    if card is None:
        return None
    interval = "" if card.ci_low is None or card.ci_high is None else f"[{card.ci_low:.3f}, {card.ci_high:.3f}]"
    score = "" if card.primary_score is None else f"{card.primary_score:.3f}"
    return (
        evaluation.evalset_key,
        score,
        interval,
        f"{card.n_scored} of {card.n_items}",
        card.verdict.value,
        evaluation.id,
    )


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in sorted(document.items()):
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


def _with(name: str, digest: str) -> str:
    return f"{name} ({digest})" if digest else name


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = [list(head), *([_plain(cell) for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines)]


def _plain(text: str) -> str:
    """``text`` as one cell: names come from people and cannot break the table or become markup."""
    escaped = "".join(f"\\{char}" if char in "|`*_<>[]#\\" else char for char in text)
    return " ".join(escaped.split())
