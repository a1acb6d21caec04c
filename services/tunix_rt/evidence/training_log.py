"""The training log: a row per logged step with its metrics, then the run's log lines.

Rows are kept few enough that evidence stays small; what was left out is counted in the log itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunix_rt.evidence.documents import Document

MAX_STEPS = 500
MAX_LINES = 1000


def training_log(metrics: Sequence[Document], logs: Sequence[Document]) -> list[Document]:
    """The lines of ``training_log.jsonl``: at most `MAX_STEPS` steps, evenly spread with the first and the last, and
    at most `MAX_LINES` log lines, the first and the last ones."""
    rows = _rows(metrics)
    kept = rows if len(rows) <= MAX_STEPS else [rows[i * (len(rows) - 1) // (MAX_STEPS - 1)] for i in range(MAX_STEPS)]
    lines = [{"kind": "log", **line} for line in sorted(logs, key=lambda line: (line["attempt"], line["sequence"]))]
    half = MAX_LINES // 2
    shown = lines if len(lines) <= MAX_LINES else lines[:half] + lines[-half:]
    return [*kept, *shown, *_left_out(len(rows) - len(kept), len(lines) - len(shown))]


def _rows(metrics: Sequence[Document]) -> list[Document]:
    by_step: dict[int, Document] = {}
    for point in metrics:
        row = by_step.setdefault(point["step"], {"kind": "metrics", "step": point["step"], "time": "", "values": {}})
        row["values"][point["key"]] = point["value"]
        row["time"] = max(row["time"], point.get("time", ""))
    return [by_step[step] for step in sorted(by_step)]


def _left_out(steps: int, lines: int) -> Iterator[Document]:
    if steps or lines:
        yield {"kind": "left_out", "steps": steps, "log_lines": lines}
