"""`tunix-rt logprobs`: how likely a model finds a text."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tunix_rt.cli.context import Json, client

EXAMPLE = "Example: tunix-rt logprobs default/2 'The sum of 2 and 3 is 5.' --top 3"


def logprobs(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Version id, NAME@ALIAS, NAME/VERSION, or pkg://, hf://, file://.")],
    text: Annotated[str, typer.Argument(help="Tokenized as it is, without chat template; '-' reads standard input.")],
    top: Annotated[int, typer.Option(min=0, max=20, help="Also the likeliest tokens at each place.")] = 0,
    weight_format: Annotated[str, typer.Option(help="int8-v1: faster and smaller, slightly other answers.")] = "",
    adapter: Annotated[str, typer.Option(help="A LoRA adapter of the model, named as models are.")] = "",
    as_json: Json = False,
) -> None:
    """Log-probability (natural) of each token of a text given those before it, and their sum.

    Nothing is said of the first token. To score answers against an evalset, see `tunix-rt score`.
    """
    from tunix_rt.cli import output
    from tunix_rt.cli.views import inference

    with client(ctx) as api:
        wanted = sys.stdin.read() if text == "-" else text
        score = api.logprobs(model, wanted, top_logprobs=top, weight_format=weight_format, adapter=adapter)
    if as_json:
        sums = {"total_logprob": score.total, "mean_logprob": score.mean}
        output.print_json(score.to_dict() | sums)
        return
    output.show(*inference.scored(score))
