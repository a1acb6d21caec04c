"""`tunix-rt generate` and `tunix-rt logprobs`: answers of a model, and its log-probabilities of a text."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

import typer

from tunix_rt.cli import formats, printing
from tunix_rt.cli.context import Json, client
from tunix_rt.cli.groups import new_group
from tunix_rt.cli.rule_options import with_options
from tunix_rt.cli.views import inference
from tunix_rt.cli.visible import visible
from tunix_rt.contract.generation import GENERATION_RULES

app = new_group("generation")

# A field that has a single value is no option.
GENERATION_OPTIONS: Final = {
    name: rule
    for name, rule in GENERATION_RULES.items()
    if len(rule.served) != 1 and not (rule.kind is int and rule.low == rule.high)
}

Model = Annotated[str, typer.Argument(help="Version id, NAME@ALIAS, NAME/VERSION, or pkg://, hf://, file://.")]
Adapter = Annotated[str, typer.Option(help="A LoRA adapter of the model, named as models are.")]


@app.command(epilog="Example: tunix-rt generate default/2 'What is 17 + 25?' --max-new-tokens 200")
@with_options("config", GENERATION_OPTIONS, "Generation")
def generate(
    ctx: typer.Context,
    model: Model,
    prompt: Annotated[str, typer.Argument(help="The user's turn; '-' reads standard input.")],
    adapter: Adapter = "",
    stream: Annotated[bool, typer.Option(help="Print the answer as it is generated.")] = True,
    as_json: Json = False,
    *,
    config: dict[str, Any],
) -> None:
    """Generate an answer with the platform's inferencer."""
    question = _text(prompt)
    with client(ctx) as api:
        if as_json:
            printing.print_json(api.generate(model, question, config=config, adapter=adapter))
            return
        if not stream:
            print(visible(api.generate(model, question, config=config, adapter=adapter).text))
            return
        for piece in api.generate_stream(model, question, config=config, adapter=adapter):
            sys.stdout.write(visible(piece.text))
            sys.stdout.flush()
        sys.stdout.write("\n")
        used = piece.usage
        seconds = formats.seconds_text(used.total_seconds)
        print(f"{used.prompt_tokens} + {used.completion_tokens} tokens, {seconds}", file=sys.stderr)


@app.command(epilog="Example: tunix-rt logprobs default/2 'The sum of 2 and 3 is 5.' --top-logprobs 3")
def logprobs(
    ctx: typer.Context,
    model: Model,
    text: Annotated[str, typer.Argument(help="Tokenized as it is, without chat template; '-' reads standard input.")],
    top_logprobs: Annotated[
        int,
        typer.Option(
            "--top-logprobs", "--top", min=0, max=20, help="Also show the most likely tokens at each position."
        ),
    ] = 0,
    weight_format: Annotated[str, typer.Option(help="int8-v1: faster and smaller; answers differ slightly.")] = "",
    adapter: Adapter = "",
    as_json: Json = False,
) -> None:
    """Log-probability (natural) of each token of a text given those before it, and their sum.

    The first token has none. To grade answers against an evalset, see `tunix-rt score`.
    """
    with client(ctx) as api:
        found = api.logprobs(
            model, _text(text), top_logprobs=top_logprobs, weight_format=weight_format, adapter=adapter
        )
    if as_json:
        printing.print_json(found.to_dict() | {"total_logprob": found.total, "mean_logprob": found.mean})
        return
    printing.show(*inference.scored(found))


def _text(given: str) -> str:
    return sys.stdin.read() if given == "-" else given
