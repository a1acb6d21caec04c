"""`tunix-rt gate`: may a candidate replace a baseline?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunix_rt.cli import gate_reports, printing
from tunix_rt.cli.context import Filter, Json, Limit, client
from tunix_rt.cli.groups import new_group
from tunix_rt.cli.views import gates
from tunix_rt.errors import NotFound

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.client.resources.gates import GateDecision

app = new_group("gate")

# For build scripts. An error is not a verdict, so it has a code of its own.
EXIT_CODES = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 2, "INVALID": 3}
ERROR_CODE = 4


@app.command(epilog="Example: tunix-rt gate check run-01jd… --baseline main --junit gate.xml && deploy")
def check(
    ctx: typer.Context,
    candidate: Annotated[str, typer.Argument(help="Evaluation, or a run that has just one.")],
    baseline: Annotated[str, typer.Option(help="Name of a locked baseline.")] = "",
    baseline_evaluation: Annotated[
        str,
        typer.Option(
            "--baseline-evaluation", "--against", help="Evaluation or run to compare with, instead of a baseline."
        ),
    ] = "",
    evalset: Annotated[str, typer.Option(help="Which evaluation of a run is meant.")] = "",
    policy: Annotated[str, typer.Option(help="Id or name; default: the built-in policy.")] = "",
    junit: Annotated[
        Path | None, typer.Option(help="Also write JUnit XML to this file, for the CI server.", show_default=False)
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write a report for a pull request to this file.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Decide and store the decision. Exit code 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 INVALID; 4 without a decision."""
    ctx.obj.error_code = ERROR_CODE
    with client(ctx) as api:
        decision = api.gate.decide(
            api.evaluations.resolve(candidate, evalset).id,
            baseline=baseline,
            baseline_evaluation_id=api.evaluations.resolve(baseline_evaluation, evalset).id
            if baseline_evaluation
            else "",
            policy=policy,
        )
        _write_reports(api, decision, junit, markdown)
    printing.record(decision, as_json, gates.decision)
    raise typer.Exit(EXIT_CODES.get(decision.verdict, ERROR_CODE))


def _write_reports(api: TunixClient, decision: GateDecision, junit: Path | None, markdown: Path | None) -> None:
    if junit is None and markdown is None:
        return

    facts = gate_reports.gate_facts(api, decision)
    if junit is not None:
        junit.write_bytes(gate_reports.junit(facts))
    if markdown is not None:
        markdown.write_text(gate_reports.markdown(facts), encoding="utf-8")


@app.command(epilog="Example: tunix-rt gate policies")
def policies(ctx: typer.Context, limit: Limit = 50, as_json: Json = False) -> None:
    """List gate policies."""
    with client(ctx) as api:
        found = api.gate.policies(limit=limit)
        printing.rows(found, as_json, gates.policies)


@app.command(
    "create-policy",
    epilog="Example: tunix-rt gate create-policy strict --baseline main --critical section=core --advisory category",
)
def create_policy(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The same name again makes the next version.")],
    margin: Annotated[
        float | None, typer.Option(help="A PASS shows that the candidate is not worse by this much. [0, 1)")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="One-sided. (0, 0.5)")] = None,
    min_coverage: Annotated[float | None, typer.Option(help="Less is INVALID.")] = None,
    min_effect: Annotated[float | None, typer.Option(help="Smallest drop that can FAIL.")] = None,
    metric: Annotated[str, typer.Option(help="Metric to compare; default answer_correctness.")] = "",
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="Direction of the metric.")] = False,
    critical: Annotated[
        list[str] | None,
        typer.Option(help="A slice whose FAIL fails the gate: DIMENSION[=VALUE][@MIN_EFFECT]; repeatable."),
    ] = None,
    advisory: Annotated[list[str] | None, typer.Option(help="A slice that is only reported, as --critical.")] = None,
    baseline: Annotated[str, typer.Option(help="Default baseline.")] = "",
    description: Annotated[str, typer.Option()] = "",
    etag: Annotated[str | None, typer.Option(help="Only if the newest version of the name has this etag.")] = None,
    as_json: Json = False,
) -> None:
    """Create a gate policy; a policy never changes."""
    with client(ctx) as api:
        if etag is None:
            etag = _etag_of_newest(api, name)
        created = api.gate.create_policy(
            name,
            margin=margin,
            alpha=alpha,
            min_coverage=min_coverage,
            min_effect=min_effect,
            metric=metric,
            lower_is_better=lower_is_better,
            slices=[slice_rule(each, "critical") for each in critical or ()]
            + [slice_rule(each, "advisory") for each in advisory or ()],
            baseline=baseline,
            description=description,
            etag=etag,
        )
    printing.row(created, as_json, gates.policies)


def _etag_of_newest(api: TunixClient, name: str) -> str:
    """The etag of the version that is to be followed; "" for a new name."""
    try:
        return api.gate.policy(name).etag
    except NotFound:
        return ""


@app.command(epilog="Example: tunix-rt gate decisions --filter 'verdict = FAIL'")
def decisions(ctx: typer.Context, filter: Filter = "", limit: Limit = 50, as_json: Json = False) -> None:
    """List stored decisions."""
    with client(ctx) as api:
        found = api.gate.decisions(filter=filter, limit=limit)
        printing.rows(found, as_json, gates.decisions)


def slice_rule(text: str, tier: str) -> dict[str, str | float]:
    """``"section=core@0.05"`` as the fields of a SliceRule; raises a usage error naming what cannot be read."""
    name, at, least = text.partition("@")
    dimension, _, value = name.partition("=")
    rule: dict[str, str | float] = {"dimension": dimension, "value": value, "tier": tier}
    if at:
        try:
            rule["min_effect"] = float(least)
        except ValueError:
            raise typer.BadParameter(f"{text!r}: {least!r} is not a number", param_hint=f"--{tier}") from None
    return rule
