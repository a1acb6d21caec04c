"""The picture of a sweep holds every trial, at its place, for few trials and for very many."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tunix_rt.cli.sweep_plot import draw, picture
from tunix_rt.cli.sweep_table import SweepTable, sweep_table
from tunix_rt.client import Trial
from tunix_rt.client.resources.sweep_records import Importance
from tunix_rt.v1 import common_pb2, tuning_pb2
from tunix_rt.v1 import sweeps_pb2 as pb

SHARES = Importance(
    tuning_pb2.ComputeImportanceResponse(
        parameters=[
            tuning_pb2.ParameterImportance(name="learning_rate", importance=0.75),
            tuning_pb2.ParameterImportance(name="lora.rank", importance=0.25),
        ],
        n_trials=6,
    )
)


@pytest.fixture
def example(a_sweep: Any, some_trials: Any) -> Callable[[int], SweepTable]:
    return lambda count: sweep_table(a_sweep(display_name="an example"), some_trials(count))


def labelled(axes: Any) -> dict[str, Any]:
    handles, labels = axes.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


@pytest.mark.parametrize("count", [12, 1000])
def test_every_trial_is_in_both_panels(count: int, example: Any) -> None:
    table = example(count)
    objective, parallel, _ = picture(table, SHARES).axes
    drawn = labelled(objective)
    points = drawn["succeeded, 95 %"].lines[0]
    scored = [row for row in table.rows if row.outcome == "SUCCEEDED"]
    assert list(points.get_xdata()) == [row.number for row in scored]
    assert list(points.get_ydata()) == [row.objective for row in scored]
    stopped = table.count("STOPPED")
    assert len(drawn[f"stopped early ({stopped})"].get_xdata()) == stopped
    failed = table.count("FAILED")
    assert len(drawn[f"failed ({failed})"].get_xdata()) == failed
    grey, coloured = parallel.collections
    assert len(grey.get_segments()) == stopped + failed
    assert len(coloured.get_segments()) == len(scored)


def test_intervals_and_the_best_so_far_are_drawn_where_they_are(example: Any) -> None:
    table = example(12)
    objective, *_ = picture(table, SHARES).axes
    drawn = labelled(objective)
    (bars,) = drawn["succeeded, 95 %"].lines[2]
    first = next(row for row in table.rows if row.outcome == "SUCCEEDED")
    (x, low), (_, high) = bars.get_segments()[0]
    assert (x, low, high) == (first.number, pytest.approx(first.ci_low), pytest.approx(first.ci_high))
    known = [row.running_best for row in table.rows if row.running_best is not None]
    assert list(drawn["best so far"].get_ydata()) == known


def test_a_logarithmic_domain_has_a_logarithmic_axis(a_sweep: Any) -> None:
    """1e-4 lies a third of the way from 1e-5 to 1e-2, and 8 halfway between the places of 4 and 16."""
    trials = [pb.Trial(number=n, state=common_pb2.JOB_STATE_SUCCEEDED, objective=n / 10) for n in range(2)]
    for trial in trials:
        trial.parameters.update({"learning_rate": 1e-4, "per_device_batch_size": 8, "lora.rank": 4, "warmup_steps": 5})
    _, parallel, _ = picture(sweep_table(a_sweep(), Trial.each(trials)), None, "too few trials").axes
    _, coloured = parallel.collections
    places = [y for _, y in coloured.get_segments()[0]]
    assert places == pytest.approx([1 / 3, 0.5, 0.0, -0.12, 0.5, 0.0])


def test_the_best_trial_is_on_top_whatever_the_mode(a_sweep: Any, some_trials: Any) -> None:
    for mode, best in ((pb.OBJECTIVE_MODE_MAX, 1.0), (pb.OBJECTIVE_MODE_MIN, 0.0)):
        sweep = a_sweep()
        sweep.proto.spec.objective.mode = mode
        _, parallel, _ = picture(sweep_table(sweep, some_trials(30)), SHARES).axes
        _, coloured = parallel.collections
        assert coloured.get_segments()[-1][-1][1] == pytest.approx(best)
        # The end of cividis that is bright is the good one.
        assert sum(coloured.get_colors()[-1][:3]) > sum(coloured.get_colors()[0][:3])


@pytest.mark.parametrize("count", [0, 1, 12])
@pytest.mark.parametrize(("format", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_every_format_is_written_and_the_same_sweep_gives_the_same_bytes(
    count: int, format: str, start: bytes, example: Any
) -> None:
    table = example(count)
    first = draw(table, SHARES if count else None, format=format)
    assert first.startswith(start)
    assert draw(table, SHARES if count else None, format=format) == first


def test_names_and_figures_are_text_in_the_svg(example: Any) -> None:
    drawn = draw(example(12), SHARES).decode()
    for words in ("an example: 12 trials", "primary_score (max)", "stopped early (4)", "0.75", "lora.rank", "not set"):
        assert words in drawn


def test_why_there_is_no_importance_stands_in_its_place(example: Any) -> None:
    assert "the tuner is away" in draw(example(12), None, "the tuner is away").decode()


def test_without_matplotlib_the_command_says_how_to_install_it() -> None:
    code = (
        "import sys\n"
        "sys.modules['matplotlib'] = None\n"
        "from tunix_rt.cli.main import app\n"
        "sys.argv = ['tunix-rt', 'sweeps', 'plot', 'sweep-1', '-o', 'x.svg']\n"
        "app()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: drawing needs matplotlib; install it with: pip install 'tunix-rt[plots]'\n"
