"""Sweeps, trials and their results in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from tunix_rt.cli import formats, printing
from tunix_rt.cli.sweep_table import Outcome, SweepTable, sweep_table
from tunix_rt.contract.enums import SearchAlgorithm, TrialScheduler

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.client.resources.sweep_records import Configuration, Importance, Parameter, SweepSpec
    from tunix_rt.client.resources.sweeps import Sweep, SweepResults, Trial

SHOWN_TRIALS = 100
_BAR_WIDTH = 32
_SINGLE = "  [dim]of single trials; `sweeps results` ranks configurations[/dim]"
_OUTCOMES: tuple[Outcome, ...] = ("SUCCEEDED", "RUNNING", "QUEUED", "STOPPED", "FAILED", "CANCELLED")
_SEGMENTS: tuple[tuple[Outcome, str, str], ...] = (
    ("SUCCEEDED", "green", "█"),
    ("STOPPED", "yellow", "▓"),
    ("FAILED", "red", "▒"),
    ("CANCELLED", "red", "▒"),
    ("RUNNING", "blue", "░"),
)


def sweeps(items: Iterable[Sweep]) -> RenderableType:
    rows = [
        (
            item.id,
            formats.escaped(item.display_name),
            _state(item),
            _counts(item),
            item.best_trial_id,
            formats.local_time(item.create_time),
        )
        for item in items
    ]
    return printing.table(["id", "name", "state", "trials succeeded", "best trial id", "created"], rows)


def sweep(item: Sweep, found: Sequence[Trial]) -> list[RenderableType]:
    """One sweep: how it searches, how far it is, its best trial, and its first `SHOWN_TRIALS` trials."""
    table = sweep_table(item, found)
    rows: list[tuple[str, object]] = [
        ("sweep", f"{item.id}  {formats.escaped(item.display_name)}"),
        ("state", _state(item)),
        ("message", formats.escaped(item.message)),
        ("warning", formats.warning(item.warning)),
        ("objective", f"{table.mode.lower()} {formats.escaped(table.metric)}"),
        ("space", "\n".join(_space(parameter) for parameter in item.spec.parameters)),
        ("search", _search(item.spec)),
        ("scheduler", _scheduling(item.spec)),
        ("trials", f"{trial_bar(item, table)}  {trial_counts(item, table)}"),
        ("repeats", f"{item.spec.repeats} of each configuration" if item.spec.repeats > 1 else ""),
        ("pools", formats.escaped(", ".join(item.spec.pools))),
        ("best trial", best_line(item, table) + (_SINGLE if item.spec.repeats > 1 and table.best else "")),
        ("took", formats.duration(item.start_time, item.end_time)),
        ("tags", formats.tags(item.tags)),
    ]
    parts = [printing.fields(rows), trials(islice(found, SHOWN_TRIALS), item.best_trial_id)]
    if len(found) > SHOWN_TRIALS:
        parts.append(f"[dim]… and {len(found) - SHOWN_TRIALS} more: tunix-rt sweeps trials {item.id}[/dim]")
    return parts


def trials(found: Iterable[Trial], best: str = "") -> RenderableType:
    """One line for each trial; ★ marks the one with the id ``best``."""
    rows = []
    for trial in found:
        reported = (
            f"{formats.number(trial.reported_value)} at {trial.reported_step}"
            if trial.reported_value is not None
            else ""
        )
        rows.append(
            (
                f"{trial.number}{' ★' if best and trial.id == best else ''}",
                f"{trial.configuration}.{trial.repeat}",
                formats.state_of(trial.state, trial.reason),
                formats.score(trial.objective, trial.ci_low, trial.ci_high),
                reported,
                trial.steps or "",
                parameters(trial.parameters),
                trial.run_id,
                formats.escaped(trial.message, 60),
            )
        )
    columns = ["#", "conf.", "state", "objective [95 %]", "reported", "steps", "parameters", "run id", "message"]
    return printing.table(columns, rows, numbers=["steps"])


def results(found: SweepResults) -> list[RenderableType]:
    """Configurations, best first, with their difference from the best; then whether there is a winner."""
    rows = []
    for place, each in enumerate(found.configurations, start=1):
        rows.append(
            (
                "–" if each.objective is None else place,
                each.index,
                formats.score(each.objective, each.ci_low, each.ci_high),
                _difference(each),
                "ties with best" if each.tied_with_best else "",
                _outcomes(each),
                parameters(each.parameters),
            )
        )
    columns = ["place", "configuration", "objective [95 %]", "Δ to best [95 %]", "", "trials", "parameters"]
    return [
        printing.table(columns, rows, numbers=["place", "configuration"]),
        printing.fields(
            [
                ("result", f"[bold]{formats.escaped(found.statement)}[/bold]" if found.statement else ""),
                ("best trial", found.best_trial_id),
                ("tied with best", found.n_tied or ""),
                ("steps trained", f"{found.steps:,}"),
            ]
        ),
    ]


def importance(found: Importance) -> list[RenderableType]:
    """A bar for each parameter, most important first."""
    rows = [
        (formats.escaped(part.name), f"{part.importance:.3f}", "█" * round(part.importance * _BAR_WIDTH))
        for part in found.parameters
    ]
    return [
        printing.table(["parameter", "importance", "0" + " " * (_BAR_WIDTH - 2) + "1"], rows, numbers=["importance"]),
        f"[dim]PED-ANOVA over {found.n_trials} trials with an objective; the shares sum to 1[/dim]",
    ]


def parameters(given: dict[str, Any]) -> str:
    """``"learning_rate=0.003  packing=True"``."""
    return "  ".join(f"{formats.escaped(name)}={formats.setting(value)}" for name, value in sorted(given.items()))


def best_line(item: Sweep, table: SweepTable) -> str:
    """``"0.640 [0.542, 0.729] (trial 3)"``: the trial that the registry calls best; empty before any has succeeded."""
    best = next((row for row in table.rows if row.trial_id == item.best_trial_id), table.best)
    return "" if best is None else f"{formats.score(best.objective, best.ci_low, best.ci_high)} (trial {best.number})"


def trial_counts(item: Sweep, table: SweepTable) -> str:
    """``"7 of 12: 4 succeeded, 1 running, 2 stopped early, 1 failed"``; a population makes more than it begins with."""
    words = {"STOPPED": "stopped early"}
    counted = {name: table.count(name) for name in _OUTCOMES}
    told = formats.joined(f"{count} {words.get(name, name.lower())}" for name, count in counted.items() if count)
    begun, total = len(table.rows), item.trial_count or len(table.rows)
    how_many = f"{begun} of {total}" if begun <= total else f"{begun} in a population of {total}"
    return how_many + (f": {told}" if told else "")


def trial_bar(item: Sweep, table: SweepTable) -> str:
    """All trials that the sweep is to have as one bar: succeeded, stopped, failed, running, to come."""
    total = max(1, item.trial_count, len(table.rows))
    parts, done, drawn = [], 0, 0
    for outcome, style, block in _SEGMENTS:
        done += table.count(outcome)
        width = round(done * _BAR_WIDTH / total) - drawn
        drawn += width
        if width:
            parts.append(f"[{style}]{block * width}[/{style}]")
    return "".join(parts) + "[dim]" + "·" * (_BAR_WIDTH - drawn) + "[/dim]"


def _state(item: Sweep) -> str:
    return formats.state_of(item.state, item.reason) + (" [yellow]paused[/yellow]" if item.paused else "")


def _counts(item: Sweep) -> str:
    text = f"{item.n_succeeded} of {item.trial_count or item.n_trials}"
    more = ((item.n_stopped, "stopped early"), (item.n_failed, "failed"))
    return text + "".join(f", {count} {word}" for count, word in more if count)


def _space(parameter: Parameter) -> str:
    """``"lora.alpha = uniform(8, 64) when lora.rank in 8, 16"``, as `sweeps create` takes it."""
    domain, ends = parameter.domain
    if domain in ("choice", "grid"):
        arguments = _values(ends.values)
    else:
        arguments = [formats.number(value) for value in ends.to_dict().values()] if domain else []
    text = f"{parameter.name} = {domain}({', '.join(arguments)})"
    if parameter.when is None:
        return formats.escaped(text)
    return formats.escaped(f"{text} when {parameter.when.parameter} in {', '.join(_values(parameter.when.values))}")


def _values(listed: Iterable[object]) -> list[str]:
    return [str(value) for value in listed]


def _search(spec: SweepSpec) -> str:
    name = spec.algorithm.lower()
    if spec.algorithm is not SearchAlgorithm.TPE:
        return name
    joint = "" if spec.tpe.multivariate is False else ", multivariate"
    return f"{name} after {spec.tpe.startup_trials} random trials{joint}"


def _scheduling(spec: SweepSpec) -> str:
    name = spec.scheduler.lower().replace("_", "-")
    given = spec.scheduling
    if spec.scheduler in (TrialScheduler.UNSPECIFIED, TrialScheduler.FIFO):
        return name
    mode = given.mode.lower()
    parts = [f"{mode} {formats.escaped(given.metric)}"]
    if given.grace_steps:
        parts.append(f"after {given.grace_steps} steps")
    if spec.scheduler is TrialScheduler.ASHA:
        parts.append(f"top 1/{given.reduction_factor:g} promoted, {given.brackets} bracket(s)")
    if spec.scheduler is TrialScheduler.PBT:
        parts.append(f"the worst {given.quantile_fraction:.0%} are replaced every {given.interval_steps} steps")
    return f"{name}: {', '.join(parts)}"


def _difference(each: Configuration) -> str:
    if each.difference is None:
        return ""
    return formats.signed(each.difference, each.difference_low, each.difference_high)


def _outcomes(each: Configuration) -> str:
    words = ((each.n_succeeded, "succeeded"), (each.n_stopped, "stopped"), (each.n_failed, "failed"))
    return formats.joined(f"{count} {word}" for count, word in words if count)
