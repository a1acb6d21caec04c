"""`tunix-rt score`: score given predictions, without a platform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt.cli.context import Json
from tunix_rt.contract.scores import DEFAULT_THRESHOLD, THRESHOLD

if TYPE_CHECKING:
    from tunix_rt.quality.items import EvalSet
    from tunix_rt.quality.predictions import Predictions
    from tunix_rt.quality.scorecard import Scorecard
    from tunix_rt.quality.scorers import ScorerSet
    from tunix_rt.quality.scoring import ItemScore

EXAMPLE = """Example: tunix-rt score --evalset arith_v1 --predictions answers.jsonl --json

A line of answers.jsonl:
{"id": "arith-001", "prediction": "<reasoning>41 + 7 = 48</reasoning><answer>48</answer>"}

Several lines of one id are samples of it. An item without a line is ERRORED: it lowers the coverage, not the score.
So is one with "prediction": null. A line may carry "sample_index"; other fields are passed over.

Exit code: 0 when everything was scored, whatever the verdict; 1 when a file cannot be read or a line is wrong (all
wrong lines are named at once); 2 for wrong options."""

Results = list[tuple[str, int, "ItemScore"]]


def score(
    evalset: Annotated[Path, typer.Option(help="JSONL file, or the key of an evalset that ships.")],
    predictions: Annotated[Path, typer.Option(help='JSONL: {"id": …, "prediction": …} a line.')],
    threshold: Annotated[float, typer.Option(min=0, max=1, help=THRESHOLD.help)] = DEFAULT_THRESHOLD,
    items: Annotated[bool, typer.Option("--items", help="List every item too (--json always does).")] = False,
    as_json: Json = False,
) -> None:
    """Score predictions offline, exactly as the platform does: no server, no model, no JAX.

    Prints the scorecard; with --json also every item's outcome, metrics and details.
    """
    from tunix_rt.cli import output
    from tunix_rt.cli.views import offline
    from tunix_rt.client.shipped import evalset_path
    from tunix_rt.quality.items import parse_evalset
    from tunix_rt.quality.predictions import parse_predictions
    from tunix_rt.quality.scorecard import scorecard
    from tunix_rt.quality.scorer_plugins import installed_scorers
    from tunix_rt.quality.scoring import score_item, scored_row

    scorers = installed_scorers()
    parsed = parse_evalset(evalset_path(evalset).read_bytes())
    given = parse_predictions(predictions.read_bytes(), [item.id for item in parsed.items])
    by_id = {item.id: item for item in parsed.items}
    results: Results = [
        (item.id, index, score_item(item, prediction, scorers=scorers))
        for item in parsed.items
        for index, prediction in enumerate(given.samples[item.id])
    ]
    card = scorecard([scored_row(by_id[item_id], outcome) for item_id, _, outcome in results], threshold)
    if as_json:
        output.print_json(_document(parsed, scorers, given, card, results))
        return
    output.show(*offline.scorecard(card, given.samples_per_item), *offline.missing(given.missing))
    if items:
        output.show(offline.items(results, several=given.samples_per_item > 1))


def _document(
    evalset: EvalSet, scorers: ScorerSet, given: Predictions, card: Scorecard, results: Results
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "evalset_digest": evalset.digest,
        "scorer_version": scorers.version,
        "scorers": [{"name": name, "version": version} for name, version in scorers.members],
        "samples_per_item": given.samples_per_item,
        "scorecard": asdict(card),
        "results": [{"item_id": item_id, "sample_index": index, **asdict(one)} for item_id, index, one in results],
        "missing": [{"item_id": item_id, "sample_index": index} for item_id, index in given.missing],
    }
