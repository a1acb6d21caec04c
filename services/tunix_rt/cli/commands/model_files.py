"""`tunix-rt models export` and `merge`: a model version as files for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt import client as sdk
from tunix_rt.cli import printing
from tunix_rt.cli.context import Json, State, client
from tunix_rt.cli.views import catalogue
from tunix_rt.contract.exports import DTYPE, EXPORT_DTYPES, FORMAT, MAX_SHARD_SIZE
from tunix_rt.errors import NotFound

if TYPE_CHECKING:
    from tunix_rt.client import ModelVersion, TunixClient

# Scorecards in a model card; the newest evaluations.
_SCORES = 20

Artifacts = Annotated[
    str,
    typer.Option(
        envvar="TUNIX_RT_ARTIFACTS_URI",
        help="Root of the artifact store; nothing outside of it is followed. By default the local platform's.",
        show_default=False,
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the group of models."""
    app.command(epilog="Example: tunix-rt models export default@production --out model --dtype bfloat16")(export)
    app.command(epilog="Example: tunix-rt models merge default@production --out merged")(merge)


def export(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Id, NAME@ALIAS or NAME/VERSION.")],
    out: Annotated[Path, typer.Option(help="Directory to create.", show_default=False)],
    dtype: Annotated[
        str, typer.Option(help=f"{DTYPE.help} One of {', '.join(EXPORT_DTYPES)}; by default as it is stored.")
    ] = "",
    format: Annotated[str, typer.Option(help="safetensors for Transformers, gguf for llama.cpp.")] = FORMAT.default,
    max_shard_size: Annotated[
        str, typer.Option(help=f"Most bytes of a weight file, as 500MB; by default {MAX_SHARD_SIZE}.")
    ] = "",
    merge: Annotated[
        bool, typer.Option("--merge", help="Of an adapter: the whole model, in one with its base.")
    ] = False,
    base_name: Annotated[
        str, typer.Option(help="Of an adapter: what PEFT loads its base by; by default its hub name, if it has one.")
    ] = "",
    artifacts: Artifacts = "",
    as_json: Json = False,
) -> None:
    """Write a model version with its model card as files that Transformers, PEFT or llama.cpp load."""
    with client(ctx) as api:
        found = api.models.get(model)
        card = _card(api, found)
    written = sdk.export_model(
        found,
        out,
        artifacts_uri=_root(ctx, artifacts),
        dtype=dtype,
        format=format,
        max_shard_size=max_shard_size,
        merge=merge,
        base_name=base_name,
        card=card,
        on_stage=lambda stage: print(stage, file=sys.stderr, flush=True),
    )
    printing.record(written, as_json, catalogue.exported)


def merge(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A LoRA model version: id, NAME@ALIAS or NAME/VERSION.")],
    out: Annotated[Path, typer.Option(help="Directory to create, in Hugging Face layout.", show_default=False)],
    artifacts: Artifacts = "",
    as_json: Json = False,
) -> None:
    """Merge an adapter into its base model and write a plain model that Transformers loads."""
    with client(ctx) as api:
        found = api.models.get(model)
    merged = sdk.merge_adapter(found, out, artifacts_uri=_root(ctx, artifacts))
    printing.record(merged, as_json, catalogue.merged)


def _root(ctx: typer.Context, artifacts: str) -> str:
    state: State = ctx.obj
    return artifacts or (state.platform_home() / "artifacts").as_uri()


def _card(api: TunixClient, model: ModelVersion[Any]) -> str:
    """The model card; the run may have been deleted."""
    run = None
    if model.lineage.run_id:
        try:
            run = api.runs.get(model.lineage.run_id)
        except NotFound:
            run = None
    scored = api.evaluations.list(filter=f'model_id = "{model.id}" AND state = SUCCEEDED', limit=_SCORES)
    return sdk.model_card(model, run, scored)
