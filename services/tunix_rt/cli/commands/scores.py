"""`tunix-rt leaderboard`, `compare` and `score`: ranks, paired comparisons, and scores without a platform."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt.cli import printing
from tunix_rt.cli.context import Filter, Json, Limit, client
from tunix_rt.cli.groups import new_group
from tunix_rt.cli.views import comparisons, scores
from tunix_rt.client.shipped import evalset_path
from tunix_rt.contract.scores import DEFAULT_THRESHOLD, THRESHOLD

if TYPE_CHECKING:
    from tunix_rt.quality.items import EvalSet
    from tunix_rt.quality.predictions import Predictions
    from tunix_rt.quality.scorecard import Scorecard
    from tunix_rt.quality.scorers import ScorerSet
    from tunix_rt.quality.scoring import ItemScore

    Results = list[tuple[str, int, ItemScore]]

app = new_group("scores")

SCORE_EXAMPLE = """Example: tunix-rt score --evalset arith_v1 --predictions answers.jsonl --json

A line of answers.jsonl:
{"id": "arith-001", "prediction": "<reasoning>41 + 7 = 48</reasoning><answer>48</answer>"}

Several lines of one id are samples of it. An item without a line is ERRORED: it lowers the coverage, not the score.
So is one with "prediction": null. A line may carry "sample_index"; other fields are passed over.

Exit code: 0 when everything was scored, whatever the verdict; 1 when a file cannot be read or a line is wrong (all
wrong lines are named at once); 2 for wrong options."""


@app.command(epilog="Example: tunix-rt leaderboard arith_v1 --order-by 'metrics.trace_tokens asc'")
def leaderboard(
    ctx: typer.Context,
    evalset: Annotated[str, typer.Argument(help="Id or key.")],
    generation_digest: Annotated[str, typer.Option(help="Default: that of the newest evaluation.")] = "",
    scorer_version: Annotated[str, typer.Option(help="Default: that of the newest evaluation.")] = "",
    filter: Filter = "",
    order_by: Annotated[
        str, typer.Option(help="primary_score, metrics.NAME, sections.NAME, … pass@K; then ' desc' or ' asc'.")
    ] = "",
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Rank everything evaluated on an evalset; scores that cannot be told apart share a rank."""
    with client(ctx) as api:
        board = api.leaderboard(
            evalset,
            generation_digest=generation_digest,
            scorer_version=scorer_version,
            filter=filter,
            order_by=order_by,
            limit=limit,
        )
    printing.record(board, as_json, scores.leaderboard)


@app.command(epilog="Example: tunix-rt compare run-01ja… run-01jb… run-01jc… --evalset arith_v1")
def compare(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(help="The reference: evaluation or run.")],
    candidates: Annotated[list[str], typer.Argument(metavar="B [C…]", help="The candidates: evaluations or runs.")],
    evalset: Annotated[str, typer.Option(help="Which evaluation of a run is meant.")] = "",
    items: Annotated[int, typer.Option(help="Changed items to show.", min=0)] = 20,
    only_changed: Annotated[bool, typer.Option("--only-changed", help="Leave equal items out of --json.")] = False,
    as_json: Json = False,
) -> None:
    """Compare evaluations item by item, with intervals and p-values: what became better or worse, and the loss curves.

    With several candidates, p-values are also given after Holm's correction.
    """
    with client(ctx) as api:
        baseline, *others = (api.evaluations.resolve(name, evalset).id for name in (a, *candidates))
        found = api.compare(baseline, *others, only_changed=only_changed, include_curves=True)
    printing.print_json(found) if as_json else printing.show(*comparisons.comparison(found, items))


@app.command(epilog=SCORE_EXAMPLE)
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
    # Here, so that the other two commands do not wait for the scorers.
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
        printing.print_json(_document(parsed, scorers, given, card, results))
        return
    printing.show(*scores.scorecard(card, given.samples_per_item), *scores.missing(given.missing))
    if items:
        printing.show(scores.items(results, several=given.samples_per_item > 1))


def _document(
    evalset: EvalSet, scorers: ScorerSet, given: Predictions, card: Scorecard, results: Results
) -> dict[str, Any]:
    from tunix_rt.evidence.scoring import plain

    return {
        "evalset_digest": evalset.digest,
        "scorer_version": scorers.version,
        "scorers": [{"name": name, "version": version} for name, version in scorers.members],
        "samples_per_item": given.samples_per_item,
        "scorecard": plain(asdict(card)),
        "results": [{"item_id": item_id, "sample_index": index, **asdict(one)} for item_id, index, one in results],
        "missing": [{"item_id": item_id, "sample_index": index} for item_id, index in given.missing],
    }
