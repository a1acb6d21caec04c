"""Values as text for people: states, times, scores, intervals, sparklines. Pure; markup is rich's."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from tunix_rt.errors import FieldViolation, InvalidInput

if TYPE_CHECKING:
    from tunix_rt.contract.enums import JobState, Reason

_STYLES = {
    "QUEUED": "cyan",
    "RUNNING": "blue",
    "CANCELLING": "yellow",
    "SUCCEEDED": "green",
    "FAILED": "red",
    "CANCELLED": "yellow",
    "PASS": "bold green",
    "FAIL": "bold red",
    "UNCERTAIN": "yellow",
    "INCONCLUSIVE": "yellow",
    "INVALID": "magenta",
    "SERVING": "green",
    "NOT_SERVING": "yellow",
    "UNREACHABLE": "red",
    "REGRESSION": "red",
    "FIX": "green",
}
_BLOCKS = "▁▂▃▄▅▆▇█"


def styled(word: str) -> str:
    """A state, verdict or health in its colour."""
    style = _STYLES.get(word)
    return f"[{style}]{word}[/{style}]" if style else word


def escaped(text: str, limit: int = 0) -> str:
    """Text of users or models, safe to print: no markup is read from it; one line of at most ``limit`` characters."""
    from rich.markup import escape

    if limit:
        text = " ".join(text.split())
        text = text if len(text) <= limit else text[: limit - 1] + "…"
    return escape(text)


def state_of(state: JobState, reason: Reason | None = None) -> str:
    """A job's state, with the reason where there is one."""
    text = styled(state)
    return f"{text} [dim]{reason}[/dim]" if reason else text


def warning(text: str) -> str:
    """What the reader should know; empty for none."""
    return f"[yellow]{escaped(text)}[/yellow]" if text else ""


def local_time(time: datetime | None) -> str:
    """A moment in the reader's time zone; empty when unset."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(start: datetime | None, end: datetime | None, now: datetime | None = None) -> str:
    """How long a job took, or has taken up to now; empty before it started."""
    if start is None:
        return ""
    return seconds_text(((end or now or datetime.now(UTC)) - start).total_seconds())


def seconds_text(seconds: float) -> str:
    """``"0.4 s"``, ``"12 s"``, ``"3 min 20 s"``, ``"2 h 05 min"``."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def parse_duration(text: str) -> int:
    """Seconds of ``"90s"``, ``"90m"``, ``"24h"`` or ``"7d"``. Raises `InvalidInput` naming ``older_than``."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text.strip())
    if found is None:
        raise InvalidInput([FieldViolation("older_than", f"{text!r} is no time such as 90m, 24h or 7d")])
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]


def size_text(size_bytes: int) -> str:
    """``"512 B"``, ``"3.4 MiB"``."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the loop returns at GiB")


def number(value: float) -> str:
    """Four significant digits, without a needless exponent."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def setting(value: object) -> str:
    """A hyperparameter's value."""
    return number(value) if isinstance(value, float) else escaped(str(value))


def score(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """``"0.640 [0.542, 0.729]"``; "–" when there is none."""
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def signed(value: float, low: float | None = None, high: float | None = None) -> str:
    """``"+0.120 [+0.031, +0.209]"``."""
    return f"{value:+.3f}" if low is None or high is None else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def interval_bar(value: float, low: float, high: float, width: int = 32) -> str:
    """An interval within [0, 1] as a bar of ``width`` characters: ``·····├──●──┤·····``."""
    last = width - 1

    def column(x: float) -> int:
        return round(min(1.0, max(0.0, x)) * last)

    left, middle, right = column(low), column(value), column(high)
    cells = ["·"] * width
    cells[left : right + 1] = ["─"] * (right - left + 1)
    cells[left], cells[right] = "├", "┤"
    cells[middle] = "●"
    return "".join(cells)


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The course of a series in at most ``width`` blocks, each the mean of its share; only finite values."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    count = min(width, len(finite))
    edges = [round(i * len(finite) / count) for i in range(count + 1)]
    means = [math.fsum(finite[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    if high == low:
        return _BLOCKS[0] * count
    return "".join(_BLOCKS[min(7, int((mean - low) / (high - low) * 8))] for mean in means)


def counts(values: Mapping[str, int]) -> str:
    """``"core 60, edge_case 15"``, the largest first."""
    ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{escaped(name)} {count}" for name, count in ordered)


def tags(values: Mapping[str, str]) -> str:
    return " ".join(escaped(f"{name}={value}") for name, value in sorted(values.items()))


def joined(values: Iterable[str]) -> str:
    return ", ".join(values)
