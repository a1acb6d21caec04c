"""`tunix-rt score`: score given predictions, without a platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunix_rt.cli.context import Json

if TYPE_CHECKING:
    from tunix_rt.quality.items import EvalItem
    from tunix_rt.quality.scorecard import Scored
    from tunix_rt.quality.scoring import ItemScore

EXAMPLE = "Example: tunix-rt score --evalset arith_v1 --predictions answers.jsonl --json"


def score(
    evalset: Annotated[Path, typer.Option(help="JSONL file, or the key of an evalset that ships.")],
    predictions: Annotated[Path, typer.Option(help='JSONL: {"item_id": …, "prediction": …} a line.')],
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Of the verdict.")] = 0.5,
    items: Annotated[bool, typer.Option("--items", help="Also print every item's result.")] = False,
    as_json: Json = False,
) -> None:
    """Score predictions offline, exactly as the platform does. Items without a prediction count as not scored."""
    from dataclasses import asdict

    from tunix_rt.cli import output
    from tunix_rt.cli.views import offline
    from tunix_rt.client.shipped import evalset_path
    from tunix_rt.quality.items import parse_evalset
    from tunix_rt.quality.scorecard import scorecard
    from tunix_rt.quality.scoring import SCORER_VERSION, score_item

    parsed = parse_evalset(evalset_path(evalset).read_bytes())
    given = read_predictions(predictions, {item.id for item in parsed.items})
    scores = {item.id: score_item(item, given.get(item.id)) for item in parsed.items}
    card = scorecard([scored_row(item, scores[item.id]) for item in parsed.items], threshold)
    if as_json:
        results = [{"item_id": item_id, **asdict(outcome)} for item_id, outcome in scores.items()]
        document = {"evalset_digest": parsed.digest, "scorer_version": SCORER_VERSION, "scorecard": asdict(card)}
        output.print_json(document | ({"results": results} if items else {}))
        return
    output.show(*offline.scorecard(card))
    if items:
        output.show(offline.items(scores))


def scored_row(item: EvalItem, outcome: ItemScore) -> Scored:
    """An item's score with the item's slices, as the scorecard takes it."""
    from tunix_rt.quality.scorecard import Scored

    return Scored(
        item_id=item.id,
        outcome=outcome.outcome,
        value=outcome.metrics.get("answer_correctness"),
        metrics=outcome.metrics,
        section=item.section,
        category=item.category,
        difficulty=item.difficulty,
        cluster_id=item.cluster_id,
    )


def read_predictions(path: Path, known: set[str]) -> dict[str, str]:
    """Item id → prediction from JSONL; raises `InvalidInput` naming every bad line."""
    from tunix_rt.errors import Violations

    violations = Violations()
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            violations.add(where, f"is not JSON: {error}")
            continue
        item_id = row.get("item_id", row.get("id")) if isinstance(row, dict) else None
        prediction = row.get("prediction") if isinstance(row, dict) else None
        if not (isinstance(item_id, str) and isinstance(prediction, str)):
            violations.add(where, 'must be {"item_id": text, "prediction": text}')
        elif violations.check(item_id in known, f"{where}.item_id", f"the evalset has no item {item_id!r}"):
            violations.check(item_id not in found, f"{where}.item_id", f"{item_id!r} was predicted before")
            found[item_id] = prediction
    violations.raise_if_any()
    return found
