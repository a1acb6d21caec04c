"""A sweep as one picture of three panels: objective by trial, parallel coordinates, importance of parameters.

Colours are those of Okabe & Ito and of cividis, which people with any colour vision tell apart; outcomes differ in
their marker, too. Needs matplotlib, and imports it when something is drawn.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tunix_rt.cli.sweep_table import Axis, Row, SweepTable
from tunix_rt.errors import FailedPrecondition

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tunix_rt.client.resources.sweep_records import Importance

_BLUE, _ORANGE, _VERMILLION, _GREY, _BLACK = "#0072B2", "#E69F00", "#D55E00", "#999999", "#000000"
_COLOUR_MAP: Final = "cividis"
# Outcome of a trial without an objective → marker, colour, words.
_MARKS: Final = {
    "STOPPED": ("v", _ORANGE, "stopped early"),
    "FAILED": ("x", _VERMILLION, "failed"),
    "CANCELLED": ("+", _GREY, "cancelled"),
}
# Below the axis of a parameter: where trials go that do not have it.
_ABSENT: Final = -0.12
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tunix-rt",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def require_matplotlib() -> None:
    """Raises `FailedPrecondition` with the command that installs it, where matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise FailedPrecondition("drawing needs matplotlib; install it with: pip install 'tunix-rt[plots]'") from error


def draw(table: SweepTable, shares: Importance | None, why_not: str = "", *, format: str = "svg") -> bytes:
    """The picture as "svg", "png" or "pdf"; the same sweep gives the same bytes. ``why_not`` says why no ``shares``."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        figure = picture(table, shares, why_not)
        file = io.BytesIO()
        metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format, {})
        figure.savefig(file, format=format, metadata=metadata, dpi=160)
    return file.getvalue()


def picture(table: SweepTable, shares: Importance | None, why_not: str = "") -> Figure:
    """The figure, 11 inches wide."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    figure.suptitle(f"{table.display_name or table.sweep_id}: {len(table.rows)} trials", fontsize=12)
    grid = figure.add_gridspec(2, 2, height_ratios=(1, 1), width_ratios=(2.6, 1))
    _objective(figure.add_subplot(grid[0, :]), table)
    _parallel(figure.add_subplot(grid[1, 0]), table)
    _importance(figure.add_subplot(grid[1, 1]), shares, why_not)
    return figure


def _objective(axes: Axes, table: SweepTable) -> None:
    """Every scored trial with its interval, the best up to each, and marks at the foot for those that have no score."""
    from matplotlib.ticker import MaxNLocator

    scored = _scored(table)
    crowd = _crowding(len(table.rows))
    axes.errorbar(
        [row.number for row, _ in scored],
        [objective for _, objective in scored],
        yerr=_reaches(scored),
        fmt="o",
        color=_BLUE,
        ecolor=_BLUE,
        markersize=2 + 4 * crowd,
        elinewidth=0.4 + 0.8 * crowd,
        alpha=0.5 + 0.5 * crowd,
        label="succeeded, 95 %",
        zorder=2,
    )
    best = [(row.number, row.running_best) for row in table.rows if row.running_best is not None]
    axes.step(
        [number for number, _ in best],
        [objective for _, objective in best],
        where="post",
        color=_BLACK,
        linewidth=1.4,
        label="best so far",
        zorder=3,
    )
    for height, (outcome, (marker, colour, words)) in enumerate(_MARKS.items()):
        found = [row.number for row in table.rows if row.outcome == outcome]
        if found:
            axes.plot(
                found,
                [0.02 + 0.035 * height] * len(found),
                marker,
                transform=axes.get_xaxis_transform(),
                color=colour,
                markersize=2.5 + 4 * crowd,
                label=f"{words} ({len(found)})",
                zorder=4,
            )
    axes.margins(x=0.02, y=0.15)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(f"{table.metric} ({table.mode.lower()})")
    axes.grid(axis="y", linewidth=0.3)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=5, frameon=False)


def _parallel(axes: Axes, table: SweepTable) -> None:
    """A line for each trial through its parameters to its objective; grey where it has none, the best on top."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    scored = sorted(_scored(table), key=lambda pair: pair[1], reverse=table.mode == "MIN")
    values = [objective for _, objective in scored]
    scales = [_Scale(axis, table.rows) for axis in table.axes]
    objective = _Scale(Axis(table.metric, "objective"), (), values)
    columns = [*scales, objective]
    crowd = _crowding(len(table.rows))
    unscored = [row for row in table.rows if row.outcome in _MARKS]
    axes.add_collection(
        LineCollection(
            [_line(row, scales, None) for row in unscored], colors=_GREY, linewidths=0.5, alpha=0.15 + 0.35 * crowd
        )
    )
    span = Normalize(min(values), max(values)) if values else Normalize(0, 1)
    mapped: Any = ScalarMappable(span, _COLOUR_MAP if table.mode == "MAX" else f"{_COLOUR_MAP}_r")
    lines = LineCollection(
        [_line(row, scales, objective) for row, _ in scored], linewidths=0.6 + 1.0 * crowd, alpha=0.35 + 0.5 * crowd
    )
    lines.set_color([mapped.to_rgba(value) for value in values])
    axes.add_collection(lines)
    best = table.best
    if best is not None:
        axes.plot(*zip(*_line(best, scales, objective), strict=True), color=_VERMILLION, linewidth=2.2, zorder=5)
        axes.annotate(
            f"best: trial {best.number}", _line(best, scales, objective)[-1], (6, 0), textcoords="offset points"
        )
    for position, scale in enumerate(columns):
        _column(axes, position, scale, mapped if scale is objective else None)
    absent = any(axis.name not in row.parameters for axis in table.axes for row in table.rows)
    axes.set_xlim(-0.4, len(columns) - 0.2)
    axes.set_ylim((_ABSENT - 0.06) if absent else -0.06, 1.06)
    axes.set_xticks(range(len(columns)), [_wrapped(scale.axis.name) for scale in columns])
    axes.tick_params(axis="x", length=0)
    axes.set_yticks([_ABSENT] if absent else [], ["not set"] if absent else [])
    axes.spines[:].set_visible(False)


class _Scale:
    """Where a parameter's values lie between 0 and 1, and which of them are written."""

    def __init__(self, axis: Axis, rows: Sequence[Row], values: Sequence[float] = ()) -> None:
        self.axis = axis
        seen = [row.parameters[axis.name] for row in rows if axis.name in row.parameters] + list(values)
        self._listed: list[Any] = []
        if axis.domain in ("choice", "grid"):
            self._listed = [*axis.values, *(value for value in dict.fromkeys(seen) if value not in axis.values)]
            return
        ends = [end for end in (axis.low, axis.high) if end is not None]
        numbers = [float(value) for value in (*ends, *seen)] or [0.0, 1.0]
        self._low, self._high = min(numbers), max(numbers)
        self._log = axis.log and self._low > 0

    def place(self, value: Any) -> float:
        """0 is the lowest, 1 the highest; a half where there is but one value."""
        if self._listed:
            return self._listed.index(value) / (len(self._listed) - 1) if len(self._listed) > 1 else 0.5
        low, high, at = (self._scaled(number) for number in (self._low, self._high, float(value)))
        return (at - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[Any]:
        """The values that are written: all that are listed (at most 12), whole powers of ten, or five even ones."""
        if self._listed:
            step = math.ceil(len(self._listed) / 12)
            return self._listed[::step]
        if self._high == self._low:
            return [self._low]
        if not self._log:
            even = [self._low + (self._high - self._low) * part / 4 for part in range(5)]
            return [round(value) for value in even] if self.axis.domain == "randint" else even
        first, last = math.floor(math.log10(self._low)), math.ceil(math.log10(self._high))
        powers = [10.0**power for power in range(first, last + 1) if self._low < 10.0**power < self._high]
        return [self._low, *powers, self._high]

    def _scaled(self, number: float) -> float:
        return math.log10(number) if self._log else number


def _column(axes: Axes, position: int, scale: _Scale, mapped: Any) -> None:
    """A vertical axis with its ticks; that of the objective carries the colours."""
    if mapped is None:
        axes.plot([position, position], [0, 1], color=_BLACK, linewidth=0.8, zorder=4)
    else:
        ramp = [[mapped.cmap(part / 127)] for part in range(128)]
        axes.imshow(ramp, extent=(position - 0.03, position + 0.03, 0, 1), origin="lower", aspect="auto", zorder=4)
    placed: list[float] = []
    for value in scale.ticks():
        at = scale.place(value)
        if any(abs(at - other) < 0.05 for other in placed):
            continue
        placed.append(at)
        axes.annotate(
            _text(value),
            (position, at),
            (-5, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=7,
            zorder=6,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
        )


def _line(row: Row, scales: Sequence[_Scale], objective: _Scale | None) -> list[tuple[float, float]]:
    places = [
        scale.place(row.parameters[scale.axis.name]) if scale.axis.name in row.parameters else _ABSENT
        for scale in scales
    ]
    if objective is not None:
        places.append(objective.place(row.objective))
    return list(enumerate(places))


def _importance(axes: Axes, shares: Importance | None, why_not: str) -> None:
    axes.set_title("importance (PED-ANOVA)", fontsize=9)
    axes.set_xlim(0, 1)
    if shares is None:
        axes.text(0.5, 0.5, why_not or "not known", ha="center", va="center", transform=axes.transAxes, color=_GREY)
        axes.set_yticks([])
        return
    parts = list(reversed(shares.parameters))
    bars = axes.barh([part.name for part in parts], [part.importance for part in parts], color=_BLUE, height=0.6)
    axes.bar_label(bars, [f"{part.importance:.2f}" for part in parts], padding=3, fontsize=8)
    axes.set_xlim(0, 1.15)
    axes.set_xticks([0, 0.5, 1])


def _scored(table: SweepTable) -> list[tuple[Row, float]]:
    """The trials that succeeded, each with its objective."""
    return [(row, row.objective) for row in table.rows if row.objective is not None and row.outcome == "SUCCEEDED"]


def _reaches(scored: Sequence[tuple[Row, float]]) -> list[list[float]] | None:
    """How far the intervals reach below and above; 0 where there is none."""
    below, above = [], []
    for row, at in scored:
        below.append(at - row.ci_low if row.ci_low is not None else 0.0)
        above.append(row.ci_high - at if row.ci_high is not None else 0.0)
    return [below, above] if any((*below, *above)) else None


def _crowding(trials: int) -> float:
    """1 for few trials, towards 0 for a thousand."""
    return min(1.0, math.sqrt(20 / max(1, trials)))


def _wrapped(name: str) -> str:
    """A long name on two lines, cut at an underscore or a dot near its middle."""
    cuts = [place for place, letter in enumerate(name) if letter in "_."]
    if len(name) <= 12 or not cuts:
        return name
    cut = min(cuts, key=lambda place: abs(place - len(name) / 2))
    return f"{name[: cut + 1]}\n{name[cut + 1 :]}"


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
