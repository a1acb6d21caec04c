"""Results of `evaluations verify` in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunix_rt.cli import formats, printing

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.client.workflows.verification import Verification

SHOWN = 50


def verification(found: Verification) -> list[RenderableType]:
    """A summary, then every sample that differs (at most `SHOWN`; ``--json`` has all)."""
    scored = found.n_samples - found.n_not_generated
    said = "equal byte for byte" if not found.scorecard_differences else f"{len(found.scorecard_differences)} differ"
    rows: list[tuple[str, object]] = [
        (
            "evaluation",
            f"{found.evaluation_id}  {'[green]HOLDS[/green]' if found.ok else '[bold red]DIFFERS[/bold red]'}",
        ),
        ("scored again", f"{scored} of {found.n_samples} samples, {len(found.differences)} differences"),
        ("scorecard", f"{said}, primary score {formats.score(found.primary_score)}"),
    ]
    if found.not_scored_again:
        said = f"of the stored scores: {said}"
        rows[1:] = [
            ("scored again", f"[yellow]no: {formats.escaped(found.not_scored_again)}[/yellow]"),
            ("scorecard", f"{said}, primary score {formats.score(found.primary_score)}"),
        ]
    if found.flips is not None:
        flipped = sum(flip.score_differs for flip in found.flips)
        rows.append(("generated again", f"{len(found.flips)} of {scored} texts differ, {flipped} with another score"))
    parts: list[RenderableType] = [printing.fields(rows)]
    parts += [formats.escaped(f"scorecard.{text}") for text in found.scorecard_differences[:SHOWN]]
    parts += [formats.escaped(str(difference)) for difference in found.differences[:SHOWN]]
    if found.flips:
        columns = ["item", "sample", "from character", "stored", "generated", "score"]
        lines = [
            (
                formats.escaped(flip.item_id),
                flip.sample_index,
                flip.position,
                formats.escaped(flip.stored[max(0, flip.position - 20) :], 50),
                formats.escaped(flip.generated[max(0, flip.position - 20) :], 50),
                f"{flip.stored_score} → {flip.generated_score}" if flip.score_differs else "same",
            )
            for flip in found.flips[:SHOWN]
        ]
        parts.append(printing.table(columns, lines))
    return parts
