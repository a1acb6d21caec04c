"""`tunix-rt generate`: ask a model."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from tunix_rt.cli.context import Json, client

EXAMPLE = "Example: tunix-rt generate default/2 'What is 17 + 25?' --max-new-tokens 200"


def generate(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Version id, NAME@ALIAS, NAME/VERSION, or pkg://, hf://, file://.")],
    prompt: Annotated[str, typer.Argument(help="The user's turn; '-' reads standard input.")],
    adapter: Annotated[str, typer.Option(help="A LoRA adapter of the model, named as models are.")] = "",
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="1..8192; default 256")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy (default).")] = None,
    top_p: Annotated[float | None, typer.Option()] = None,
    top_k: Annotated[int | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; repeatable.")] = None,
    weight_format: Annotated[str | None, typer.Option(help="int8-v1: faster, slightly other answers.")] = None,
    stream: Annotated[bool, typer.Option(help="Print the answer as it is generated.")] = True,
    as_json: Json = False,
) -> None:
    """Generate an answer with the platform's inferencer."""
    from tunix_rt.cli import formats, output

    settings: dict[str, Any] = {
        "system_prompt": system,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "seed": seed,
        "stop": stop or [],
        "weight_format": weight_format,
    }
    question = sys.stdin.read() if prompt == "-" else prompt
    with client(ctx) as api:
        if as_json:
            output.print_json(api.generate(model, question, config=settings, adapter=adapter))
            return
        if not stream:
            print(api.generate(model, question, config=settings, adapter=adapter).text)
            return
        for piece in api.generate_stream(model, question, config=settings, adapter=adapter):
            sys.stdout.write(piece.text)
            sys.stdout.flush()
        sys.stdout.write("\n")
        used = piece.usage
        seconds = formats.seconds_text(used.total_seconds)
        print(f"{used.prompt_tokens} + {used.completion_tokens} tokens, {seconds}", file=sys.stderr)
