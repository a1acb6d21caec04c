"""`tunix-rt leaderboard`, `compare` and `score`: ranks, paired comparisons, and scores without a platform."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt.cli import printing
from tunix_rt.cli.context import Filter, Json, Limit, client
from tunix_rt.cli.groups import new_group
from tunix_rt.cli.import_options import Maps, columns_of
from tunix_rt.cli.log_files import LOG_FORMATS, one_of, write_lines
from tunix_rt.cli.progress import Counted
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

Several lines of one id are samples of it, as are the texts of a list. The usual names (response, output, completion),
the output of OpenAI's batch API, samples of lm-eval and logs of inspect are read too. An item without a line is
ERRORED: it lowers the coverage, not the score. So is one with "prediction": null. A line may carry "sample_index";
other fields are passed over.

Exit code: 0 when everything was scored, whatever the verdict; 1 when a file cannot be read or a line is wrong (ten
wrong lines are named, and how many there are); 2 for wrong options."""


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
    every_evaluation: Annotated[
        bool, typer.Option("--every-evaluation", help="A line for every evaluation of a run, not only its newest.")
    ] = False,
    differences: Annotated[
        bool, typer.Option("--differences", help="Each entry's difference to the first, on the same items.")
    ] = False,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Rank what was evaluated on an evalset, one line per run.

    An entry whose interval overlaps that of the first of its group shares that one's rank. --differences compares with
    the first item by item, which tells more apart.
    """
    with client(ctx) as api:
        board = api.leaderboard(
            evalset,
            generation_digest=generation_digest,
            scorer_version=scorer_version,
            filter=filter,
            order_by=order_by,
            every_evaluation=every_evaluation,
            with_differences=differences,
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
    predictions: Annotated[
        Path,
        typer.Option(help='JSONL ({"id": …, "prediction": …} a line), CSV, Parquet, or the output of other tools.'),
    ],
    threshold: Annotated[float, typer.Option(min=0, max=1, help=THRESHOLD.help)] = DEFAULT_THRESHOLD,
    map: Maps = None,
    items: Annotated[bool, typer.Option("--items", help="List every item too (--json always does).")] = False,
    log: Annotated[
        Path | None, typer.Option(help="Also write the results there, for other tools.", show_default=False)
    ] = None,
    log_format: Annotated[str, typer.Option(help=" | ".join(LOG_FORMATS))] = LOG_FORMATS[0],
    as_json: Json = False,
) -> None:
    """Score predictions offline, exactly as the platform does: no server, no model, no JAX.

    Prints the scorecard; with --json also every item's outcome, metrics and details.
    """
    # Here, so that the other two commands do not wait for the scorers.
    from tunix_rt.importing.prediction_file import read_predictions
    from tunix_rt.quality.items import parse_evalset
    from tunix_rt.quality.scorecard import scorecard
    from tunix_rt.quality.scorer_plugins import installed_scorers
    from tunix_rt.quality.scoring import score_items, scored_row

    scorers = installed_scorers()
    parsed = parse_evalset(evalset_path(evalset).read_bytes())
    read = read_predictions(predictions, parsed.items, columns_of(map))
    given = read.predictions
    by_id = {item.id: item for item in parsed.items}
    places = [(item, index) for item in parsed.items for index in range(given.samples_per_item)]
    samples = [(item, given.samples[item.id][index], given.finish_reason(item.id, index)) for item, index in places]
    scored = score_items(samples, scorers=scorers, progress=Counted("scored", len(samples)))
    results: Results = [(item.id, index, score) for (item, index), score in zip(places, scored, strict=True)]
    if log is not None:
        lines = _log(
            evalset, predictions, parsed, scorers, given, results, one_of(log_format, LOG_FORMATS, "--log-format")
        )
        write_lines(lines, log)
    rows = [scored_row(by_id[item_id], outcome) for item_id, _, outcome in results]
    card = scorecard(rows, threshold, counts=scorers.counts)
    if as_json:
        printing.print_json(_document(parsed, scorers, given, card, results))
        return
    printing.show(*scores.scorecard(card, given.samples_per_item), *scores.missing(given.missing))
    if read.repaired:
        printing.show(f"[yellow]{read.repaired} predictions had halves of surrogate pairs, now U+FFFD[/yellow]")
    if items:
        printing.show(scores.items(results, several=given.samples_per_item > 1))


def _log(
    evalset: Path,
    predictions: Path,
    parsed: EvalSet,
    scorers: ScorerSet,
    given: Predictions,
    results: Results,
    log_format: str,
) -> Iterator[str]:
    from tunix_rt.quality.result_logs import Origin, Result, log_lines

    now = datetime.now(UTC).isoformat(timespec="seconds")
    by_id = {item.id: item for item in parsed.items}
    origin = Origin(
        id=predictions.stem,
        task=evalset.stem,
        model=predictions.stem,
        created=now,
        started=now,
        completed=now,
        scorer_version=scorers.version,
        evalset_digest=parsed.digest,
    )
    found = [
        Result(
            by_id[item_id],
            index,
            given.samples[item_id][index],
            one.outcome,
            one.metrics,
            one.extracted_answer or "",
            one.message,
            finish_reason=given.finish_reason(item_id, index),
        )
        for item_id, index, one in results
    ]
    return log_lines(found, origin, log_format)


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
