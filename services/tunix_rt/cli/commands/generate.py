"""`tunix-rt generate`: ask a model."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

import typer

from tunix_rt.cli.context import Json, client
from tunix_rt.cli.rule_options import with_options
from tunix_rt.contract.generation import GENERATION_RULES

EXAMPLE = "Example: tunix-rt generate default/2 'What is 17 + 25?' --max-new-tokens 200"


# One that has a single value is no option.
_OPTIONS: Final = {name: rule for name, rule in GENERATION_RULES.items() if len(rule.served) != 1}


@with_options("settings", _OPTIONS, "Generation")
def generate(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Version id, NAME@ALIAS, NAME/VERSION, or pkg://, hf://, file://.")],
    prompt: Annotated[str, typer.Argument(help="The user's turn; '-' reads standard input.")],
    adapter: Annotated[str, typer.Option(help="A LoRA adapter of the model, named as models are.")] = "",
    stream: Annotated[bool, typer.Option(help="Print the answer as it is generated.")] = True,
    as_json: Json = False,
    *,
    settings: dict[str, Any],
) -> None:
    """Generate an answer with the platform's inferencer."""
    from tunix_rt.cli import formats, output

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
