"""`tunix-rt leaderboard` and `tunix-rt evaluations compare`, which is `tunix-rt compare` too."""

from __future__ import annotations

from typing import Annotated

import typer

from tunix_rt.cli.context import Filter, Json, Limit, client

LEADERBOARD_EXAMPLE = "Example: tunix-rt leaderboard arith_v1 --order-by 'metrics.trace_tokens asc'"
COMPARE_ARGUMENTS = "compare run-01ja… run-01jb… run-01jc… --evalset arith_v1"
COMPARE_EXAMPLE = f"Example: tunix-rt {COMPARE_ARGUMENTS}"


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
    from tunix_rt.cli import output
    from tunix_rt.cli.views import scores

    with client(ctx) as api:
        board = api.leaderboard(
            evalset,
            generation_digest=generation_digest,
            scorer_version=scorer_version,
            filter=filter,
            order_by=order_by,
            limit=limit,
        )
    output.print_json(board) if as_json else output.show(*scores.leaderboard(board))


def compare(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(help="The reference: evaluation or run.")],
    candidates: Annotated[list[str], typer.Argument(metavar="B [C…]", help="The candidates: evaluations or runs.")],
    evalset: Annotated[str, typer.Option(help="Which evaluation of a run is meant.")] = "",
    items: Annotated[int, typer.Option(help="Changed items to show.", min=0)] = 20,
    only_changed: Annotated[bool, typer.Option("--only-changed", help="Leave equal items out of --json.")] = False,
    as_json: Json = False,
) -> None:
    """Compare candidates with A item by item: the difference's interval, what became better or worse, loss curves.

    With several candidates their p-values are corrected for the many looks (Holm).
    """
    from tunix_rt.cli import output
    from tunix_rt.cli.views import comparisons

    with client(ctx) as api:
        baseline, *others = (api.evaluations.resolve(name, evalset).id for name in (a, *candidates))
        found = api.compare(baseline, *others, only_changed=only_changed, include_curves=True)
    output.print_json(found) if as_json else output.show(*comparisons.comparison(found, items))
