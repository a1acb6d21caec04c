"""The leaderboard: succeeded evaluations of one score identity, best first, as the database sorts them.

Ranks are by groups: an entry shares the rank of the first of its group as long as their intervals overlap. Does not
compute scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, func, select, true
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.quality.scorecard import MIN_COVERAGE
from tunix_rt.registry.evalsets import get_evalset
from tunix_rt.registry.pages import check_page_size, context_digest, make_token, read_token
from tunix_rt.registry.states import JobState
from tunix_rt.registry.tables.evalsets import EvalSetRow
from tunix_rt.registry.tables.evaluations import EvaluationRow
from tunix_rt.registry.tables.runs import RunRow


@dataclass(frozen=True)
class Entry:
    """One line. ``rank`` is that of the first of its group; ``tied_with_first``: not told apart from the leader."""

    rank: int
    evaluation: EvaluationRow
    run_display_name: str
    tied_with_first: bool


@dataclass(frozen=True)
class Board:
    """One page of a leaderboard, and the identity whose scores it ranks."""

    evalset: EvalSetRow
    scorer_version: str
    generation_digest: str
    entries: list[Entry]
    n_invalid: int
    next_page_token: str


@dataclass(frozen=True)
class _Place:
    """Where a page begins: entries before it, and the group that the last of them belongs to."""

    before: int = 0
    group_rank: int = 0
    group_ci_low: float = 0.0


def leaderboard(
    session: Session,
    *,
    evalset: str,
    generation_digest: str,
    scorer_version: str,
    condition: ColumnElement[bool],
    page_size: int,
    page_token: str,
    context: Sequence[object],
) -> Board:
    """One page. An empty digest or scorer is that of the newest succeeded evaluation that fits the other one.

    ``condition`` is the compiled filter and ``context`` all that the token is bound to. Raises `NotFound` and
    `InvalidInput`.
    """
    size = check_page_size(page_size)
    version = get_evalset(session, evalset)
    generation, scorer = _identity(session, version.digest, generation_digest, scorer_version)
    of_identity = (
        col(EvaluationRow.evalset_digest) == version.digest,
        col(EvaluationRow.scorer_version) == scorer,
        col(EvaluationRow.generation_digest) == generation,
        col(EvaluationRow.state) == JobState.SUCCEEDED.value,
    )
    valid = (col(EvaluationRow.coverage) >= MIN_COVERAGE) & col(EvaluationRow.primary_score).is_not(None)
    ranked = select(EvaluationRow).where(*of_identity, valid, condition)
    # Tokens name the identity too: a newer evaluation must not switch a reader's board between two pages.
    bound_to = context_digest(*context, version.digest, generation, scorer)
    rows, place, after = _read_page(session, ranked, size, page_token, bound_to)
    leader = session.scalars(_sorted(ranked).limit(1)).first()
    names = _display_names(session, rows[:size])
    entries = []
    for row in rows[:size]:
        place = _next_place(place, row)
        entries.append(
            Entry(
                rank=place.group_rank,
                evaluation=row,
                run_display_name=names.get(row.run_id or "", ""),
                tied_with_first=leader is not None and _high(row) >= _low(leader),
            )
        )
    token = ""
    if after:
        last = rows[size - 1]
        values = [last.primary_score, last.id, place.before, place.group_rank, place.group_ci_low]
        token = make_token(values, bound_to)
    n_invalid = session.scalar(
        select(func.count()).select_from(EvaluationRow).where(*of_identity, ~func.coalesce(valid, False), condition)
    )
    return Board(version, scorer, generation, entries, n_invalid or 0, token)


def _identity(session: Session, evalset_digest: str, generation: str, scorer: str) -> tuple[str, str]:
    if generation and scorer:
        return generation, scorer
    newest = session.scalars(
        select(EvaluationRow)
        .where(
            col(EvaluationRow.evalset_digest) == evalset_digest,
            col(EvaluationRow.state) == JobState.SUCCEEDED.value,
            col(EvaluationRow.generation_digest) == generation if generation else true(),
            col(EvaluationRow.scorer_version) == scorer if scorer else true(),
        )
        .order_by(col(EvaluationRow.create_time).desc(), col(EvaluationRow.id).desc())
        .limit(1)
    ).first()
    if newest is None:
        return generation, scorer
    return newest.generation_digest, newest.scorer_version


def _sorted(ranked: Select[EvaluationRow]) -> Select[EvaluationRow]:
    return ranked.order_by(col(EvaluationRow.primary_score).desc(), col(EvaluationRow.id))


def _read_page(
    session: Session, ranked: Select[EvaluationRow], size: int, page_token: str, bound_to: str
) -> tuple[list[EvaluationRow], _Place, bool]:
    """Rows of the page (one more when there is a next one), where it begins, and whether there is a next one."""
    place = _Place()
    if page_token:
        score, last_id, before, group_rank, group_ci_low = read_token(page_token, 5, bound_to)
        place = _Place(before, group_rank, group_ci_low)
        primary, key = col(EvaluationRow.primary_score), col(EvaluationRow.id)
        ranked = ranked.where((primary < score) | ((primary == score) & (key > last_id)))
    rows = list(session.scalars(_sorted(ranked).limit(size + 1)))
    return rows, place, len(rows) > size


def _next_place(place: _Place, row: EvaluationRow) -> _Place:
    position = place.before + 1
    if place.group_rank and _high(row) >= place.group_ci_low:
        return _Place(position, place.group_rank, place.group_ci_low)
    return _Place(position, position, _low(row))


def _low(row: EvaluationRow) -> float:
    """Lower end of the interval; 0 where one item is too few for an interval."""
    return 0.0 if row.ci_low is None else row.ci_low


def _high(row: EvaluationRow) -> float:
    return 1.0 if row.ci_high is None else row.ci_high


def _display_names(session: Session, rows: Sequence[EvaluationRow]) -> dict[str, str]:
    run_ids = {row.run_id for row in rows if row.run_id}
    if not run_ids:
        return {}
    found = session.execute(select(col(RunRow.id), col(RunRow.display_name)).where(col(RunRow.id).in_(run_ids)))
    return {run_id: name for run_id, name in found}
