"""Values as text, checked by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tunix_rt.cli import formats
from tunix_rt.contract.enums import JobState, Reason


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.42, "0.4 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert formats.seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3_565_158, "3.4 MiB"), (2**41, "2048.0 GiB")]
)
def test_sizes(size: int, text: str) -> None:
    assert formats.size_text(size) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.000012345, "1.234e-05"), (1.5, "1.5"), (12345.6, "12,346"), (-0.25, "-0.25")]
)
def test_numbers(value: float, text: str) -> None:
    assert formats.number(value) == text


def test_scores_with_and_without_intervals() -> None:
    assert formats.score(0.64, 0.542, 0.729) == "0.640 [0.542, 0.729]"
    assert formats.score(0.64) == "0.640"
    assert formats.score(None) == "–"
    assert formats.signed(-0.1, -0.2, 0.0) == "-0.100 [-0.200, +0.000]"


def test_an_interval_bar_puts_its_marks_where_they_belong() -> None:
    # 11 columns: column i is the value i/10.
    assert formats.interval_bar(0.5, 0.2, 0.9, width=11) == "··├──●───┤·"
    assert formats.interval_bar(0.0, 0.0, 0.1, width=11) == "●┤·········"
    assert formats.interval_bar(1.0, 1.0, 1.0, width=11) == "··········●"
    assert formats.interval_bar(0.5, -1.0, 2.0, width=11) == "├────●────┤"


def test_a_sparkline_shows_the_course() -> None:
    assert formats.sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert formats.sparkline([7, 0]) == "█▁"
    assert formats.sparkline([5, 5, 5]) == "▁▁▁"
    assert formats.sparkline([]) == ""
    assert formats.sparkline([float("nan"), 1, float("inf"), 2]) == "▁█"


def test_a_long_series_is_averaged_into_the_width() -> None:
    # Four blocks of two: means 0.5, 2.5, 4.5, 6.5 of the range 0.5…6.5 → steps of 8/3.
    assert formats.sparkline([0, 1, 2, 3, 4, 5, 6, 7], width=4) == "▁▃▆█"


def test_text_of_models_is_never_read_as_markup() -> None:
    from rich.text import Text

    assert Text.from_markup(formats.escaped("[bold]no[/bold] [red]")).plain == "[bold]no[/bold] [red]"
    assert formats.escaped("a\n  b   c", limit=4) == "a b…"


def test_states_carry_their_reason() -> None:
    from rich.text import Text

    text = formats.state_of(JobState.FAILED, Reason.DIVERGED)
    assert Text.from_markup(text).plain == "FAILED DIVERGED"
    assert Text.from_markup(formats.state_of(JobState.QUEUED)).plain == "QUEUED"


def test_how_long_a_job_took_or_takes() -> None:
    start, end = datetime.fromtimestamp(1000, UTC), datetime.fromtimestamp(1200, UTC)
    assert formats.duration(start, end) == "3 min 20 s"
    assert formats.duration(start, None, now=datetime.fromtimestamp(1030, UTC)) == "30 s"
    assert formats.duration(None, None) == ""


def test_counts_are_ordered_by_size_then_name() -> None:
    assert formats.counts({"b": 2, "a": 2, "c": 9}) == "c 9, a 2, b 2"
