"""`tunix-rt certs`: certificates for a platform of several machines or containers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunix_rt.cli import formats, printing
from tunix_rt.cli.context import Json
from tunix_rt.cli.groups import new_group
from tunix_rt.contract.identifiers import DEFAULT_POOL

app = new_group("certs")


@app.callback()
def certs() -> None:
    """A group although it has one command."""


@app.command(epilog="Example: tunix-rt certs init secrets --hosts gpu-1.example.org --days 90")
def init(
    directory: Annotated[Path, typer.Argument(help="Where the CA is, and a folder for each service and for clients.")],
    hosts: Annotated[
        list[str] | None,
        typer.Option(help="Further name or address of the servers; repeatable.", show_default=False),
    ] = None,
    pool: Annotated[
        list[str] | None, typer.Option(help="Pool of trainers; repeatable. Default: cpu.", show_default=False)
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=825, help="How long the certificates are valid.")] = 90,
    renew: Annotated[bool, typer.Option("--renew", help="Replace all certificates and keys except the CA's.")] = False,
    as_json: Json = False,
) -> None:
    """Make a CA and certificates for TLS between services and clients. What exists is kept.

    Services notice replaced files at the next connection; nats-server needs a SIGHUP.
    """
    from tunix_rt.bus.users import trainer_name
    from tunix_rt.rpc.certificates import init_certificates

    trainers = [trainer_name(name) for name in pool or [DEFAULT_POOL]]
    issued = init_certificates(directory, trainers=trainers, hosts=hosts or [], days=days, renew=renew)
    if as_json:
        certificates = [
            {"name": each.name, "status": each.status, "file": str(each.path), "expire_time": each.expires.isoformat()}
            for each in issued
        ]
        printing.print_json({"ca": str(directory / "ca.pem"), "certificates": certificates})
        return
    rows: list[tuple[str, object]] = [("ca", formats.escaped(str(directory / "ca.pem")))]
    rows += [(each.name, f"{each.status}, valid until {each.expires:%Y-%m-%d}") for each in issued]
    printing.show(printing.fields(rows))
