"""`tunix-rt demo`: from an empty home to a tuned, gated, ranked model, on a separate platform."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tunix_rt.cli.demo.plan import PLANS, plan_for
from tunix_rt.cli.demo.report import Report
from tunix_rt.cli.demo.result import shortfalls
from tunix_rt.cli.demo.steps import run_demo
from tunix_rt.cli.visible import safe_console
from tunix_rt.client import TunixClient
from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.local import LocalPlatform
from tunix_rt.local.daemon import start_detached

__all__ = ["demo"]

# A killed registry restarts within seconds; the demo waits longer than that.
OUTAGE_SECONDS = 120.0


def demo(
    *,
    model: str = "preset://tiny",
    seed: int = 0,
    keep: bool = False,
    home: Path | None = None,
    json_file: Path | None = None,
    console: Console | None = None,
) -> int:
    """Run the demo and return its exit code: 0 when everything came out as promised, 1 when not.

    ``home`` is where the platform lives (default: a temporary directory, removed at the end unless ``keep``).
    ``keep`` leaves the platform running. ``json_file`` gets all figures.
    Raises `InvalidInput` for a model without a plan, and the SDK's errors when a job fails.
    """
    if model not in PLANS:
        raise InvalidInput([FieldViolation("model", f"the demo has plans for {', '.join(PLANS)}, not for {model!r}")])
    plan = plan_for(model)
    report = Report(console or safe_console())
    begun = time.monotonic()
    with ExitStack() as stack:
        home = _start(home, keep, report, stack)
        client = stack.enter_context(TunixClient(home=home, outage_seconds=OUTAGE_SECONDS))
        result = run_demo(client, plan, report, seed=seed)
    result = replace(result, seconds=time.monotonic() - begun)
    if json_file is not None:
        json_file.write_text(json.dumps(result.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    missing = shortfalls(result, plan)
    report.stage("Done")
    for sentence in missing:
        report.line(f"[red]not as promised:[/red] {sentence}")
    if keep:
        report.line(f"the platform is still up; look at it with  tunix-rt --home {home} status")
        report.line(f"and stop it with  tunix-rt down --home {home}")
    else:
        report.line("the platform is stopped")
    report.line(f"{result.seconds:.0f} s in all")
    return 1 if missing else 0


def _start(home: Path | None, keep: bool, report: Report, stack: ExitStack) -> Path:
    """Start a platform that ``stack`` stops, or with ``keep`` one that outlives this process; returns its home."""
    if home is None:
        home = Path(tempfile.mkdtemp(prefix="tunix-rt-demo-"))
        if not keep:
            stack.callback(shutil.rmtree, home, ignore_errors=True)
    report.stage(f"Platform: nats-server and five services in {home}")
    if keep:
        file = start_detached(home, free_ports=True, services=[])
        for part, address in file.addresses.items():
            report.line(f"  {part:<12} {address}")
    else:
        platform = LocalPlatform(
            home, ports="free", on_status=lambda part, status: report.line(f"  {part:<12} {status}")
        )
        stack.enter_context(platform)
    return home
