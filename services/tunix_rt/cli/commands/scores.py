"""`tunix-rt leaderboard` and `tunix-rt compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunix_rt.cli.context import Filter, Json, Limit, client

LEADERBOARD_EXAMPLE = "Example: tunix-rt leaderboard arith_v1"
COMPARE_EXAMPLE = "Example: tunix-rt compare run-01ja… run-01jb… --evalset arith_v1"


def leaderboard(
    ctx: typer.Context,
    evalset: Annotated[str, typer.Argument(help="Id or key.")],
    generation_digest: Annotated[str, typer.Option(help="Default: that of the newest evaluation.")] = "",
    scorer_version: Annotated[str, typer.Option(help="Default: that of the newest evaluation.")] = "",
    filter: Filter = "",
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Rank everything evaluated on an evalset; scores that cannot be told apart share a rank."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import scores

    with client(ctx) as api:
        board = api.leaderboard(
            evalset, generation_digest=generation_digest, scorer_version=scorer_version, filter=filter, limit=limit
        )
    output.print_json(board) if as_json else output.show(*scores.leaderboard(board))


def compare(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(help="The reference: evaluation or run.")],
    b: Annotated[str, typer.Argument(help="The candidate: evaluation or run.")],
    evalset: Annotated[str, typer.Option(help="Which evaluation of a run is meant.")] = "",
    items: Annotated[int, typer.Option(help="Changed items to show.", min=0)] = 20,
    only_changed: Annotated[bool, typer.Option("--only-changed", help="Leave equal items out of --json.")] = False,
    as_json: Json = False,
) -> None:
    """Compare B with A item by item, with the difference's interval and what became better or worse."""
    from tunix_rt.cli import lookups, output
    from tunix_rt.cli.views import scores

    with client(ctx) as api:
        result = api.compare(
            lookups.evaluation_id(api, a, evalset), lookups.evaluation_id(api, b, evalset), only_changed=only_changed
        )
    output.print_json(result) if as_json else output.show(*scores.comparison(result, items))
