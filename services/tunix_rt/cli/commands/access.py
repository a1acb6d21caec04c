"""`tunix-rt access`: principals, tokens, and the audit log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunix_rt import client as sdk
from tunix_rt.cli import printing
from tunix_rt.cli.context import Filter, Json, Limit, client
from tunix_rt.cli.groups import new_group
from tunix_rt.cli.views import access as views
from tunix_rt.cli.visible import visible
from tunix_rt.errors import FailedPrecondition

if TYPE_CHECKING:
    from tunix_rt.client.resources.access import NewToken
    from tunix_rt.oidc.device import Prompt

app = new_group("access")

DAY = 86_400
HOUR = 3_600
Roles = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        help="viewer, editor, approver, admin, trainer, evaluator, tuner, inferencer, worker; repeatable.",
        show_default=False,
    ),
]
Pools = Annotated[
    list[str] | None, typer.Option("--pool", help="Pool that a worker may serve; repeatable.", show_default=False)
]
Project = Annotated[
    str | None,
    typer.Option("--project", help='Project that it belongs to; "" is the whole instance.', show_default=False),
]
Days = Annotated[int, typer.Option(min=0, max=366, help="Days until it expires; 0: 90 for users, 30 for services.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write the token to this new file (mode 0600).", show_default=False),
]


@app.command(epilog="Example: tunix-rt access whoami")
def whoami(ctx: typer.Context, as_json: Json = False) -> None:
    """Show who your token stands for, and what it permits."""
    with client(ctx) as api:
        printing.record(api.access.caller(), as_json, views.caller)


@app.command(
    epilog="Example: tunix-rt access login --issuer https://id.example.org --client-id tunix-rt -o session.token"
)
def login(
    ctx: typer.Context,
    issuer: Annotated[str, typer.Option(envvar="TUNIX_RT_OIDC_ISSUER", help="URL of your OpenID Connect issuer.")],
    client_id: Annotated[
        str, typer.Option(envvar="TUNIX_RT_OIDC_CLIENT_ID", help="What the issuer knows this program as.")
    ],
    scopes: Annotated[str, typer.Option(help="What the issuer is asked for.")] = "openid profile email",
    hours: Annotated[float, typer.Option(min=0.1, max=12, help="How long the session lasts.")] = 12.0,
    ca_file: Annotated[
        Path | None, typer.Option(help="CAs of the issuer, instead of the system's.", show_default=False)
    ] = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Sign in with any browser, and get a session's token, this once. `TUNIX_RT_TOKEN_FILE` names its file."""
    _check_new(output)
    token = sdk.sign_in(issuer, client_id, scopes=scopes, ca_file=ca_file, show=_show_prompt)
    with client(ctx, token=token) as api:
        made = api.access.create_session(ttl_seconds=round(hours * HOUR))
    _hand_over(made, output, as_json)


@app.command(epilog="Example: tunix-rt access principals -f 'kind = service'")
def principals(ctx: typer.Context, filter: Filter = "", limit: Limit = 100, as_json: Json = False) -> None:
    """List principals by name."""
    with client(ctx) as api:
        printing.rows(api.access.principals(filter=filter, limit=limit), as_json, views.principals)


@app.command(epilog="Example: tunix-rt access create ann --role editor --role approver")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the new principal.")],
    role: Roles = None,
    service: Annotated[bool, typer.Option("--service", help="A service, not a user.")] = False,
    pool: Pools = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Create a principal. It has no token yet: see `create-token`."""
    with client(ctx) as api:
        made = api.access.create(name, role or [], service=service, pools=pool or [], project=project or "")
    printing.row(made, as_json, views.principals)


@app.command(epilog="Example: tunix-rt access update ann --role viewer")
def update(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the principal.")],
    role: Roles = None,
    pool: Pools = None,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Refuse its tokens, or accept them again.")
    ] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Replace a principal's roles, pools or project, disable it, or enable it again."""
    with client(ctx) as api:
        changed = api.access.update(name, roles=role or None, pools=pool or None, disabled=disabled, project=project)
    printing.row(changed, as_json, views.principals)


@app.command(epilog="Example: tunix-rt access tokens -f 'principal = ann'")
def tokens(ctx: typer.Context, filter: Filter = "", limit: Limit = 100, as_json: Json = False) -> None:
    """List your tokens; an administrator sees all."""
    with client(ctx) as api:
        printing.rows(api.access.tokens(filter=filter, limit=limit), as_json, views.tokens)


@app.command(epilog="Example: tunix-rt access create-token ann --days 30 -o ann.token")
def create_token(
    ctx: typer.Context,
    principal: Annotated[str, typer.Argument(help="Whose token; by default yours.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="Permission such as read; repeatable. Default: all.", show_default=False),
    ] = None,
    days: Days = 0,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Create a token and show it, this once."""
    _check_new(output)
    with client(ctx) as api:
        made = api.access.create_token(principal, scopes=scope or [], ttl_seconds=days * DAY, description=description)
    _hand_over(made, output, as_json)


@app.command(epilog="Example: tunix-rt access rotate-token tok-01jd… --overlap-hours 24 -o trainer.token")
def rotate_token(
    ctx: typer.Context,
    token: Annotated[str, typer.Argument(help="Id of the token; by default yours.")] = "",
    overlap_hours: Annotated[float, typer.Option(min=0, max=168, help="How long the old one goes on working.")] = 1.0,
    days: Days = 0,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Create the successor of a token and show it, this once."""
    _check_new(output)
    with client(ctx) as api:
        made = api.access.rotate_token(token, overlap_seconds=round(overlap_hours * HOUR), ttl_seconds=days * DAY)
    _hand_over(made, output, as_json)


@app.command(epilog="Example: tunix-rt access revoke-token tok-01jd…")
def revoke_token(
    ctx: typer.Context,
    token: Annotated[str, typer.Argument(help="Id of the token.")],
    as_json: Json = False,
) -> None:
    """Make a token unknown, and its sessions with it; within 15 s at every service."""
    with client(ctx) as api:
        printing.row(api.access.revoke_token(token), as_json, views.tokens)


@app.command(epilog="Example: tunix-rt access audit -f 'outcome != OK'")
def audit(
    ctx: typer.Context,
    filter: Filter = "",
    limit: Limit = 100,
    verify: Annotated[bool, typer.Option("--verify", help="Read the whole log and check its chain instead.")] = False,
    as_json: Json = False,
) -> None:
    """List what was done and what was refused; with --verify, exit code 1 if an event was changed or is missing."""
    with client(ctx) as api:
        if not verify:
            printing.rows(api.access.audit(filter=filter, limit=limit), as_json, views.audit)
            return
        found = sdk.verify_audit(api)
    printing.record(found, as_json, views.verification)
    raise typer.Exit(0 if found["ok"] else 1)


def _show_prompt(prompt: Prompt) -> None:
    typer.echo(
        f"Open {visible(prompt.complete_url or prompt.url)} and confirm the code {visible(prompt.code)}", err=True
    )
    typer.echo(f"Waiting up to {prompt.seconds / 60:.0f} minutes…", err=True)


def _check_new(output: Path | None) -> None:
    if output is not None and output.exists():
        raise FailedPrecondition(f"{output} exists: name a new file")


def _hand_over(made: NewToken, output: Path | None, as_json: bool) -> None:
    if output is None:
        printing.record(made, as_json, views.new_token)
        return
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(made.secret + "\n")
    printing.row(made.token, as_json, views.tokens)
