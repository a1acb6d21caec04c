"""`tunix-rt up`, `down` and `status`: the platform on this machine."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt import client as sdk
from tunix_rt import local
from tunix_rt.cli import formats, printing
from tunix_rt.cli.context import FIRST_CONTACT_SECONDS, Json, State
from tunix_rt.cli.groups import new_group

if TYPE_CHECKING:
    from tunix_rt.client import PlatformFile

app = new_group("platform")

Home = Annotated[Path | None, typer.Option(help="The platform's directory.", show_default=False)]

# `status` counts this many jobs of a kind at most.
COUNTED_JOBS = 10_000


@app.command(epilog="Example: tunix-rt up --detach --services registry,trainer=2,inferencer,evaluator")
def up(
    ctx: typer.Context,
    home: Home = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when ready; stop with `down`.")] = False,
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Any free ports instead of 4222 and 7700…7705.")
    ] = False,
    services: Annotated[
        str, typer.Option(help="Comma-separated subset, with counts: registry,trainer=2. Default: one of each.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Start nats-server and the five services here and keep them alive."""
    state: State = ctx.obj
    directory = state.platform_home(home)
    wanted = [part.strip() for part in services.split(",") if part.strip()]
    if detach:
        file = local.start_detached(directory, free_ports=free_ports, services=wanted)
        printing.print_json(_file_document(file)) if as_json else _announce(directory, file)
        return

    def on_ready() -> None:
        file = sdk.read_platform_file(directory)
        assert file is not None, "a platform that is ready has written its file"
        if as_json:
            printing.print_json(_file_document(file))
        else:
            _announce(directory, file)
            printing.show("[dim]Ctrl-C stops it[/dim]")

    platform = local.LocalPlatform(
        directory,
        ports="free" if free_ports else "default",
        service_counts=local.parse_services(wanted),
        on_status=(lambda part, status: None) if as_json else _show_status,
    )
    local.run_until_signalled(platform, on_ready)


@app.command(epilog="Example: tunix-rt down --home /tmp/try")
def down(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Stop the platform of a home, in order."""
    directory = ctx.obj.platform_home(home)
    pid = local.stop_running(directory)
    if as_json:
        printing.print_json({"home": str(directory), "stopped_pid": pid})
    else:
        printing.show(f"stopped the platform in {directory}" if pid else f"no platform runs in {directory}")


@app.command(epilog="Example: tunix-rt status --json | jq .jobs")
def status(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Show every part's health and the jobs by state; exit code 1 unless all is well."""
    directory = ctx.obj.platform_home(home)
    running = local.lock_holder(directory) is not None
    file = sdk.read_platform_file(directory) if running else None
    if file is None:
        document: dict[str, Any] = {"home": str(directory), "state": "stopped", "parts": {}, "jobs": {}, "warnings": []}
        printing.print_json(document) if as_json else printing.show(
            f"no platform runs in {directory}; `tunix-rt up` starts one"
        )
        raise typer.Exit(1)
    parts = _parts(file)
    serves = parts.get("registry", {}).get("health") == "SERVING"
    jobs, warnings = (_count_jobs(directory), _warnings(directory)) if serves else ({}, [])
    if as_json:
        document = {"home": str(directory), "state": file.state, "supervisor_pid": file.supervisor_pid}
        printing.print_json(document | {"parts": parts, "jobs": jobs, "warnings": warnings})
    else:
        rows = [
            (name, formats.styled(part["health"]), part["address"], part["pid"] or "–", part["restarts"])
            for name, part in parts.items()
        ]
        printing.show(
            f"platform in [bold]{directory}[/bold]: {file.state} since {file.start_time}",
            printing.table(["part", "health", "address", "pid", "restarts"], rows, numbers=["pid", "restarts"]),
            printing.fields((f"{name} http", url) for name, url in file.http.items()),
            printing.fields((kind, formats.counts(states) or "none") for kind, states in jobs.items()),
            *(formats.warning(f"warning: {text}") for text in warnings),
        )
    ailing = [name for name, part in parts.items() if part["health"] != "SERVING"]
    if ailing and not as_json:
        logs = ", ".join(str(directory / "logs" / f"{name}.log") for name in ailing)
        printing.show(f"not well: {', '.join(ailing)}; see {logs}. What does not answer for 30 s is started again")
    if ailing:
        raise typer.Exit(1)


def _parts(file: PlatformFile) -> dict[str, dict[str, Any]]:
    names, addresses = list(file.addresses), list(file.addresses.values())
    with ThreadPoolExecutor() as pool:
        health = dict(zip(names, pool.map(local.check_part, names, addresses), strict=True))
    if "nats" in health and health.get("registry") != "UNREACHABLE" and not local.nats_confirms(file.addresses):
        health["nats"] = "NOT_SERVING"
    return {
        name: {
            "health": health[name],
            "address": address,
            "pid": file.pids.get(name),
            "restarts": file.restarts.get(name, 0),
            **({"http": file.http[name]} if name in file.http else {}),
        }
        for name, address in file.addresses.items()
    }


def _count_jobs(home: Path) -> dict[str, dict[str, int]]:
    def by_state(jobs: Any) -> dict[str, int]:
        return dict(Counter(str(job.state) for job in islice(jobs, COUNTED_JOBS)))

    with sdk.TunixClient(home=home, outage_seconds=FIRST_CONTACT_SECONDS) as api:
        return {
            "runs": by_state(api.runs.list(page_size=1000)),
            "evaluations": by_state(api.evaluations.list(page_size=1000)),
            "sweeps": by_state(api.sweeps.list(page_size=1000)),
        }


def _warnings(home: Path) -> list[str]:
    """Jobs that wait for nobody."""
    with sdk.TunixClient(home=home, outage_seconds=FIRST_CONTACT_SECONDS) as api:
        return [pool.warning for pool in api.pools.list() if pool.warning]


def _file_document(file: PlatformFile) -> dict[str, Any]:
    return asdict(file)


def _show_status(part: str, status: str) -> None:
    style = {"ready": "green", "killed": "red"}.get(status, "dim")
    printing.show(f"[{style}]{part:<12} {status}[/{style}]")


def _announce(home: Path, file: PlatformFile) -> None:
    rows: list[tuple[str, object]] = [("ready", f"platform in [bold]{home}[/bold]")]
    rows += [(name, address) for name, address in file.addresses.items()]
    rows += [(f"{name} http", url) for name, url in file.http.items()]
    rows += [("token", file.token_path), ("logs", str(home / "logs"))]
    printing.show(printing.fields(rows))
