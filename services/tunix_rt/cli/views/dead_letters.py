"""Dead letters in a terminal. All that they say is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tunix_rt.cli import formats, printing
from tunix_rt.cli.visible import visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.client.resources.dead_letters import DeadLetter


# Letters are kept for a month: of "2026-01-31 10:00:00", this much tells them apart.
_MONTH, _SECONDS = len("2026-"), len("2026-01-31 10:00")


def letters(found: Iterable[DeadLetter]) -> RenderableType:
    rows = [
        (
            letter.sequence,
            formats.local_time(letter.time)[_MONTH:_SECONDS],
            _safe(letter.job_id) or "–",
            _state(letter),
            _safe(letter.reason, 200),
        )
        for letter in found
    ]
    return printing.table(["#", "given up", "job id", "state", "reason"], rows, numbers=["#"])


def letter(found: DeadLetter) -> list[RenderableType]:
    rows: list[tuple[str, object]] = [
        ("sequence", found.sequence),
        ("subject", _safe(found.subject)),
        ("given up", formats.local_time(found.time)),
        ("by", _safe(found.consumer)),
        ("reason", _safe(found.reason)),
        ("job", _safe(found.job_id)),
        ("state", _state(found)),
        ("event", _safe(found.event_id)),
        ("size", formats.size_text(found.size_bytes)),
    ]
    headers = [(_safe(name), _safe(value)) for name, value in sorted(found.headers.items())]
    return [
        printing.fields(rows),
        "[bold]headers[/bold]",
        printing.fields(headers),
        "[bold]body[/bold]",
        _safe(found.body),
    ]


def _safe(text: str, limit: int = 0) -> str:
    """Made visible before it is measured: what a terminal does not show takes no room in a table."""
    return formats.escaped(visible(text), limit)


def _state(found: DeadLetter) -> str:
    return formats.styled(found.job_state) if found.job_state != "UNSPECIFIED" else "unknown"
