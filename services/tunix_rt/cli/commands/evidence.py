"""`tunix-rt evidence`: everything that a score rests on, in one zip that can be checked offline."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunix_rt import client as sdk
from tunix_rt.cli import formats, printing
from tunix_rt.cli.context import Json, client
from tunix_rt.cli.groups import new_group

if TYPE_CHECKING:
    from tunix_rt.evidence.verify import Verified

app = new_group("evidence")


@app.command(epilog="Example: tunix-rt evidence build run-01jd… --evaluation arith_v1 --output evidence.zip")
def build(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="Run, or an evaluation (of any model).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: evidence-EVALUATION.zip.", show_default=False)
    ] = None,
    evaluation: Annotated[str, typer.Option(help="Which evaluation of the run: its id, or its evalset's.")] = "",
    scorer_version: Annotated[
        str, typer.Option(help="Of a former score (evaluations past-scores). Default: the present one.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Write the evidence of a run's evaluation; the same stored state gives the same bytes. Weights stay out."""

    def tell(stage: str) -> None:
        if not as_json:
            print(f"reading {stage} …", file=sys.stderr, flush=True)

    with client(ctx) as api:
        chosen = api.evaluations.resolve(run, evaluation)
        found = sdk.build_evidence(api, chosen.id, scorer_version=scorer_version, on_stage=tell)
    # The id is the registry's: a name for the file, and no way to another directory.
    path = output or Path(Path(f"evidence-{found.evaluation_id}.zip").name)
    path.write_bytes(found.data)
    if as_json:
        document = {"file": str(path), "digest": found.digest, "size_bytes": len(found.data)}
        printing.print_json(document | {"files": sorted(found.contents), "evaluation_id": found.evaluation_id})
        return
    rows: list[tuple[str, object]] = [
        (
            "evidence",
            f"{formats.escaped(str(path))}  ({formats.size_text(len(found.data))}, {len(found.contents)} files)",
        ),
        ("of", found.evaluation_id),
        ("digest", f"{found.digest}  [dim]keep it where it cannot be changed[/dim]"),
    ]
    printing.show(printing.fields(rows))


@app.command(epilog="Example: tunix-rt evidence verify evidence.zip --digest sha256:…")
def verify(
    file: Annotated[Path, typer.Argument(help="The zip.")],
    digest: Annotated[str, typer.Option(help="Digest that `build` printed; any other evidence is refused.")] = "",
    trust: Annotated[
        str, typer.Option(help="Public key (ed25519:…, or a file with it) that must have signed score and decisions.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Check every byte and score everything again, without a server. Exit code 1 names each file that is not right."""
    from tunix_rt.evidence.verify import verify as check
    from tunix_rt.quality.scorer_plugins import installed_scorers

    key = trust
    if trust and not trust.startswith("ed25519:"):
        key = Path(trust).read_text(encoding="utf-8").strip()
    found = check(file.read_bytes(), digest=digest, trust=key, scorers=installed_scorers())
    if as_json:
        printing.print_json({"file": str(file), "ok": found.ok} | asdict(found))
    else:
        _show(file, found)
    if not found.ok:
        raise typer.Exit(1)


@app.command(epilog="Example: tunix-rt evidence schema run_manifest > run_manifest.schema.json")
def schema(
    name: Annotated[str, typer.Argument(help="Stem of a file (run_manifest); without it, all names.")] = "",
    as_json: Json = False,
) -> None:
    """Print the JSON schema of a file of evidence; of a .jsonl file, that of its lines."""
    from tunix_rt.evidence import schemas

    if as_json:
        printing.print_json(schemas.schema(name) if name else {"schemas": schemas.names()})
    else:
        print(json.dumps(schemas.schema(name), indent=2, ensure_ascii=False) if name else "\n".join(schemas.names()))


def _show(file: Path, found: Verified) -> None:
    if not found.ok:
        rows = [(formats.escaped(problem.file), formats.escaped(problem.reason)) for problem in found.problems]
        printing.show(
            f"[bold red]REFUSED[/bold red] {formats.escaped(str(file))}", printing.table(["file", "why"], rows)
        )
        return
    again = f"{found.n_scored_again} predictions scored again, scorecard equal byte for byte"
    if found.not_scored_again:
        again = "scorecard made again of the stored scores, equal byte for byte"
    printing.show(
        printing.fields(
            [
                ("evidence", f"[bold green]HOLDS[/bold green] {formats.escaped(str(file))}"),
                ("of", f"{found.evaluation_id}, primary score {formats.score(found.primary_score)}"),
                ("checked", f"{len(found.files)} files; {again}"),
                ("not scored again", formats.warning(found.not_scored_again)),
                ("not generated", found.n_not_generated or ""),
                ("gate decisions", f"{found.n_gate_decisions} decided again" if found.n_gate_decisions else ""),
                ("signed by", found.signed_by or "[yellow]not signed[/yellow]"),
                ("digest", found.digest),
            ]
        )
    )
