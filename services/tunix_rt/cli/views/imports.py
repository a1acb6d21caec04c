"""What became of the rows of an imported file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tunix_rt.cli import formats, printing

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.importing.conversion import Outcome


def outcome(file: Path, found: Outcome, to: Path | None, extra: Mapping[str, str]) -> RenderableType:
    """``extra`` are further names and values; ``to`` is the file that was written."""
    left_out = "; ".join(f"{count} × {formats.escaped(reason)}" for reason, count in found.left_out.most_common())
    not_taken = formats.escaped(", ".join(found.columns_not_taken))
    rows: list[tuple[str, object]] = [
        ("read", f"{formats.escaped(str(file))} as {found.format}"),
        ("rows", f"{found.rows} read, {found.imported} imported"),
        ("left out", formats.warning(left_out)),
        ("repeated", f"{found.repeated} rows equal an earlier one and are left out" if found.repeated else ""),
        ("repaired", f"{found.repaired} rows had halves of surrogate pairs, now U+FFFD" if found.repaired else ""),
        ("warning", formats.warning(_control_tokens(found)) if found.with_control_tokens else ""),
        ("not taken", f"columns {not_taken}" if not_taken else ""),
        *extra.items(),
        ("written to", formats.escaped(str(to)) if to else ""),
    ]
    return printing.fields(rows)


def _control_tokens(found: Outcome) -> str:
    return f"{found.with_control_tokens} rows have control tokens of a chat format in their texts; they stay text"
