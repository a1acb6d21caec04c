"""Draws a roofline: operations per byte against operations per second, both logarithmic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

WIDTH, HEIGHT = 680, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 200, 30, 50
COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52")


class Measured(Protocol):
    """What a point shows."""

    @property
    def model(self) -> str: ...
    @property
    def weight_format(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def intensity(self) -> float: ...
    @property
    def rate(self) -> float: ...
    @property
    def bandwidth(self) -> float: ...
    @property
    def share(self) -> float: ...


def draw(path: Path, points: Sequence[Measured], memory: float, peaks: Mapping[str, float]) -> None:
    """Write an SVG with a roof for memory beyond the caches, one for each model's own size, and the points below."""
    series = sorted({(point.model, point.weight_format) for point in points})
    colour = dict(zip(series, COLOURS * len(series), strict=False))
    lowest_x = min(point.intensity for point in points) / 2
    highest_x = max(point.intensity for point in points) * 2
    top_y = max(peaks.values()) * 2
    low_y = min(min(point.rate for point in points) / 2, lowest_x * memory)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(value / lowest_x) / math.log(highest_x / lowest_x)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - math.log(value / low_y) / math.log(top_y / low_y))

    def roof(bandwidth: float, peak: float, stroke: str, dashes: str) -> str:
        # The slope begins at the left edge or at the lower one, and ends at the peak or the right edge.
        first = max(lowest_x, low_y / bandwidth)
        ridge = min(max(peak / bandwidth, first), highest_x)
        corners = [(first, min(peak, first * bandwidth)), (ridge, min(peak, ridge * bandwidth))]
        corners.append((highest_x, min(peak, highest_x * bandwidth)))
        track = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in corners)
        return f'<polyline points="{track}" fill="none" stroke="{stroke}" stroke-width="1.5"{dashes}/>'

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        *_grid(x, y, (lowest_x, highest_x), (low_y, top_y)),
    ]
    for name, peak in peaks.items():
        lines.append(roof(memory, peak, "#333", ""))
        label = f"{name}: {peak / 1e9:.0f} G/s"
        lines.append(f'<text x="{WIDTH - RIGHT}" y="{y(peak) - 5:.0f}" text-anchor="end">{label}</text>')
    for (model, weight_format), stroke in colour.items():
        own = [point for point in points if (point.model, point.weight_format) == (model, weight_format)]
        bandwidth = max(point.bandwidth for point in own)
        if bandwidth > 1.2 * memory:
            lines.append(roof(bandwidth, peaks[weight_format], stroke, ' stroke-dasharray="5 4"'))
        for point in own:
            title = f"{model} {weight_format}, {point.what}: {point.rate / 1e9:.0f} G/s, {point.share:.0%} of the bound"
            at = f'cx="{x(point.intensity):.1f}" cy="{y(point.rate):.1f}"'
            lines.append(f'<circle {at} r="5" fill="{stroke}"><title>{title}</title></circle>')
    lines += _legend(points, colour, memory)
    path.write_text("\n".join([*lines, "</svg>"]) + "\n")


def _grid(x, y, across: tuple[float, float], up: tuple[float, float]) -> list[str]:  # type: ignore[no-untyped-def]
    """Axes with a line at each power of ten and its unit."""
    lines = []
    for power in range(math.ceil(math.log10(across[0])), math.floor(math.log10(across[1])) + 1):
        at, label = x(10.0**power), f"{10.0**power:g}"
        lines.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        lines.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{label}</text>')
    for power in range(math.ceil(math.log10(up[0])), math.floor(math.log10(up[1])) + 1):
        at, label = y(10.0**power), f"{10.0 ** (power - 9):g}"
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{label}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    lines.append(f'<text x="{middle:.0f}" y="{HEIGHT - 12}" text-anchor="middle">operations per byte</text>')
    lines.append(f'<text x="{LEFT - 8}" y="{TOP - 12}">G operations/s</text>')
    return lines


def _legend(points: Sequence[Measured], colour: Mapping[tuple[str, str], str], memory: float) -> list[str]:
    left, top = WIDTH - RIGHT + 12, TOP + 8
    lines = [f'<text x="{left}" y="{top}">memory {memory / 1e9:.0f} GB/s</text>']
    for (model, weight_format), fill in colour.items():
        own = [point for point in points if (point.model, point.weight_format) == (model, weight_format)]
        top += 24
        size = max(point.bandwidth for point in own) / 1e9
        lines.append(f'<circle cx="{left + 5}" cy="{top - 4}" r="5" fill="{fill}"/>')
        lines.append(f'<text x="{left + 16}" y="{top}">{model}, {weight_format}, {size:.0f} GB/s</text>')
        for point in own:
            top += 16
            lines.append(f'<text x="{left + 16}" y="{top}" fill="#555">{point.what}: {point.share:.0%}</text>')
    return lines
