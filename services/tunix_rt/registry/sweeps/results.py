"""What a sweep has found: its configurations, best first, and which of them cannot be told from the best.

Owns which interval is asked for where; the statistics are `quality`'s. Single runs are compared over the items that
both were scored on, repeated ones over the seeds that both have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.contract.scores import PRIMARY_SCORE
from tunix_rt.quality.compare import pair_up
from tunix_rt.quality.estimates import CONFIDENCE
from tunix_rt.quality.identity import comparable
from tunix_rt.quality.statistics_2 import interval
from tunix_rt.quality.trial_means import MeanInterval, mean_interval, paired_difference
from tunix_rt.registry.evalsets.rules import items_by_id
from tunix_rt.registry.evaluations.comparison import score_identity
from tunix_rt.registry.evaluations.items import primary_values_of
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel.states import JobState, Reason
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow, sweep_spec
from tunix_rt.registry.sweeps.trials import reports_of, trials_of
from tunix_rt.v1 import sweeps_pb2 as pb

# Evaluations whose items are held in memory at once.
_AT_ONCE: Final = 50


@dataclass(frozen=True)
class ConfigurationResult:
    """All trials of the same parameters. ``score`` is None until one has SUCCEEDED, ``difference`` of the best itself.

    ``judged``: it is known whether it can be told from the best.
    """

    index: int
    trials: Sequence[TrialRow]
    score: MeanInterval | None
    difference: MeanInterval | None = None
    judged: bool = False

    @property
    def objectives(self) -> dict[int, float]:
        """Of the trials that succeeded, by repeat."""
        return {
            trial.repeat: trial.objective
            for trial in self.trials
            if trial.state == JobState.SUCCEEDED and trial.objective is not None
        }

    @property
    def tied(self) -> bool:
        """Whether its difference to the best may be 0."""
        found = self.difference
        if found is None:
            return False
        return found.mean == 0 or (found.low is not None and found.high is not None and found.low <= 0 <= found.high)


@dataclass(frozen=True)
class SweepResults:
    """``configurations`` are best first, those without a score last; ``best_trial_id`` is "" until there is one."""

    configurations: Sequence[ConfigurationResult]
    best_trial_id: str
    n_tied: int
    statement: str
    steps: int


def results_of(session: Session, sweep: SweepRow) -> SweepResults:
    """What the sweep has found so far."""
    spec = sweep_spec(sweep)
    trials = trials_of(session, sweep.id)
    by_score = spec.objective.metric == PRIMARY_SCORE
    found = [
        _configuration(index, list(group), by_score)
        for index, group in groupby(trials, key=lambda trial: trial.configuration)
    ]
    sign = 1 if spec.objective.mode == pb.OBJECTIVE_MODE_MIN else -1
    scored = sorted(
        (each for each in found if each.score is not None),
        key=lambda each: (sign * each.score.mean if each.score else 0.0, each.index),
    )
    if scored:
        best, others = scored[0], scored[1:]
        others = [_against(best, each) for each in others]
        if by_score and spec.repeats == 1:
            others = _over_items(session, best, others)
        scored = [best, *others]
    return SweepResults(
        configurations=[*scored, *(each for each in found if each.score is None)],
        best_trial_id=_best_trial(scored[0], sign) if scored else "",
        n_tied=sum(each.tied for each in scored),
        statement=_statement(scored, spec.repeats),
        steps=sum(report.steps for report in reports_of(session, trials, "").values()),
    )


def _configuration(index: int, trials: list[TrialRow], by_score: bool) -> ConfigurationResult:
    found = ConfigurationResult(index, trials, None)
    objectives = found.objectives
    if not objectives:
        return found
    if len(objectives) == 1:
        trial = next(trial for trial in trials if trial.repeat in objectives)
        score = MeanInterval(objectives[trial.repeat], trial.ci_low, trial.ci_high)
    else:
        score = mean_interval(list(objectives.values()))
    if by_score and score.low is not None and score.high is not None:
        score = MeanInterval(score.mean, max(0.0, score.low), min(1.0, score.high))
    return replace(found, score=score)


def _against(best: ConfigurationResult, other: ConfigurationResult) -> ConfigurationResult:
    """The difference over the seeds that both have; where there are none, or too few, that of the means alone.

    Single runs share one seed, which makes no interval. What lies apart by its own interval needs none.
    """
    assert best.score is not None
    assert other.score is not None
    difference = paired_difference(other.objectives, best.objectives)
    if difference is None or not difference.known:
        difference = MeanInterval(other.score.mean - best.score.mean, None, None)
    judged = difference.known or difference.mean == 0 or _apart(best.score, other.score)
    return replace(other, difference=difference, judged=judged)


def _apart(one: MeanInterval, other: MeanInterval) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.high < other.low or other.high < one.low


def _over_items(
    session: Session, best: ConfigurationResult, others: Sequence[ConfigurationResult]
) -> list[ConfigurationResult]:
    """Single runs against the best one over the same items; only where their own intervals leave it open."""
    assert best.score is not None
    evaluations = _evaluations(
        session, [best, *(each for each in others if not _apart(best.score, each.score or best.score))]
    )
    mine = evaluations.pop(best.index, None)
    if mine is None:
        return list(others)
    items = items_by_id(session, mine.evalset_id)
    theirs = {
        index: row.id for index, row in evaluations.items() if comparable(score_identity(mine), score_identity(row))
    }
    baseline = primary_values_of(session, [mine.id], items)[mine.id]
    differences: dict[int, MeanInterval] = {}
    for batch in _batches(list(theirs.items())):
        values = primary_values_of(session, [evaluation_id for _, evaluation_id in batch], items)
        for index, evaluation_id in batch:
            pairing = pair_up(baseline, values[evaluation_id])
            differences[index] = MeanInterval(pairing.delta, *interval(pairing, CONFIDENCE))
    return [
        replace(each, difference=differences[each.index], judged=True) if each.index in differences else each
        for each in others
    ]


def _evaluations(session: Session, found: Sequence[ConfigurationResult]) -> dict[int, EvaluationRow]:
    """The evaluation behind each single run's score, by configuration."""
    indexes = {
        trial.evaluation_id: each.index
        for each in found
        for trial in each.trials
        if trial.evaluation_id and trial.repeat in each.objectives
    }
    # Objectives are of the first score: items that were scored again do not go with them.
    first = col(EvaluationRow.score_time).is_(None)
    rows = session.scalars(select(EvaluationRow).where(col(EvaluationRow.id).in_(indexes), first))
    return {indexes[row.id]: row for row in rows}


def _batches(entries: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(entries), _AT_ONCE):
        yield entries[start : start + _AT_ONCE]


def _best_trial(best: ConfigurationResult, sign: int) -> str:
    objectives: Mapping[int, float] = best.objectives
    repeat = min(objectives, key=lambda each: (sign * objectives[each], each))
    return next(trial.id for trial in best.trials if trial.repeat == repeat)


def _statement(scored: Sequence[ConfigurationResult], repeats: int) -> str:
    """Whether there is a winner, in one sentence."""
    if not scored:
        return "no configuration has an objective yet"
    if len(scored) == 1:
        return "only one configuration has an objective: there is nothing to tell it from"
    tied = sum(each.tied for each in scored)
    if tied:
        noun = "configuration" if tied == 1 else "configurations"
        return f"{tied} {noun} cannot be told from the best (95 %): there is no single winner"
    open_ = sum(not each.judged for each in scored[1:])
    if not open_:
        return "the best is better than every other one (95 %)"
    if repeats == 1:
        return "one run of each, and no interval to judge them by: repeats would tell whether the best is better"
    noun = "configuration has" if open_ == 1 else "configurations have"
    return f"{open_} {noun} too few repeats in common with the best, or none that differ: more would tell"


def results_message(sweep: pb.Sweep, results: SweepResults) -> pb.SweepResults:
    """The results as clients see them."""
    return pb.SweepResults(
        sweep=sweep,
        configurations=map(_configuration_message, results.configurations),
        best_trial_id=results.best_trial_id,
        n_tied=results.n_tied,
        statement=results.statement,
        steps=results.steps,
    )


def _configuration_message(found: ConfigurationResult) -> pb.Configuration:
    states = [trial.state for trial in found.trials]
    stopped = [trial for trial in found.trials if trial.reason == Reason.EARLY_STOPPED]
    score, difference = found.score, found.difference
    message = pb.Configuration(
        index=found.index,
        trial_ids=[trial.id for trial in found.trials],
        n_succeeded=states.count(JobState.SUCCEEDED),
        n_failed=states.count(JobState.FAILED),
        n_stopped=sum(trial.state == JobState.CANCELLED for trial in stopped),
        objective=score.mean if score else None,
        ci_low=score.low if score else None,
        ci_high=score.high if score else None,
        difference=difference.mean if difference else None,
        difference_low=difference.low if difference else None,
        difference_high=difference.high if difference else None,
        tied_with_best=found.tied,
    )
    message.parameters.update(found.trials[0].parameters)
    return message
