"""The leaderboard: a project's succeeded evaluations of one score identity by one of their values, as the database
sorts them.

A run has one line, its newest evaluation, unless all are asked for. Ranks are by groups: an entry shares the rank of
the first of its group as long as their intervals of that value overlap. `standings` tells more apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from math import inf
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, True_, func, select, true
from sqlalchemy.orm import Session, aliased
from sqlmodel import col

from tunix_rt.quality.scorecard import MIN_COVERAGE
from tunix_rt.registry.evalsets.rules import get_evalset
from tunix_rt.registry.evalsets.tables import EvalSetRow
from tunix_rt.registry.evaluations.messages import VERDICTS
from tunix_rt.registry.evaluations.score_values import COVERAGE, Order, board_of
from tunix_rt.registry.evaluations.standings import PairedDifference, differences_to
from tunix_rt.registry.evaluations.tables import EvaluationRow, ScoreValueRow
from tunix_rt.registry.evaluations.verification import is_built_in
from tunix_rt.registry.kernel.messages import timestamp
from tunix_rt.registry.kernel.pages import check_page_size, context_digest, make_token, read_token
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.v1 import evaluations_pb2 as pb

# What a line shows: plain columns, because whole rows with their scorecards take longer to read than all the rest.
_SHOWN: Final[tuple[Any, ...]] = (
    col(EvaluationRow.id),
    col(EvaluationRow.run_id),
    func.coalesce(col(RunRow.display_name), "").label("run_display_name"),
    col(EvaluationRow.model_id),
    col(EvaluationRow.dataset_id),
    col(EvaluationRow.primary_score),
    col(EvaluationRow.ci_low),
    col(EvaluationRow.ci_high),
    col(EvaluationRow.coverage),
    col(EvaluationRow.n_scored),
    col(EvaluationRow.end_time),
    col(EvaluationRow.verdict),
    col(EvaluationRow.tags),
    col(EvaluationRow.metric_means),
    col(EvaluationRow.verified),
    col(ScoreValueRow.value),
    col(ScoreValueRow.ci_low).label("value_ci_low"),
    col(ScoreValueRow.ci_high).label("value_ci_high"),
)


@dataclass(frozen=True)
class Entry:
    """One line. ``rank`` is that of the first of its group; ``tied_with_first``: not told apart from the leader.

    ``shown`` has the columns of the evaluation by name, and the value that the board is ordered by with its interval.
    """

    rank: int
    shown: Row[Any]
    tied_with_first: bool
    difference: PairedDifference | None = None


@dataclass(frozen=True)
class Board:
    """One page of a leaderboard, and the identity whose scores it ranks."""

    evalset: EvalSetRow
    scorer_version: str
    generation_digest: str
    order: Order
    entries: list[Entry]
    n_invalid: int
    n_other_scorers: int
    next_page_token: str


@dataclass(frozen=True)
class _Place:
    """How many entries came before, the group that the last of them belongs to, what the leader and the first of the
    group are surely as good as (larger is better here, whatever the direction), and the leader's evaluation."""

    before: int = 0
    group_rank: int = 0
    group_worst: float = -inf
    leader_worst: float = -inf
    leader: str = ""


def leaderboard(
    session: Session,
    *,
    evalset: str,
    generation_digest: str,
    scorer_version: str,
    order: Order,
    condition: ColumnElement[bool],
    page_size: int,
    page_token: str,
    context: Sequence[object],
    every_evaluation: bool = False,
    with_differences: bool = False,
) -> Board:
    """One page. An empty digest or scorer is that of the newest succeeded evaluation that fits the other one.

    ``condition`` is the compiled filter and ``context`` all that the token is bound to. Raises `NotFound` and
    `InvalidInput`.
    """
    size = check_page_size(page_size)
    version = get_evalset(session, evalset)
    generation, scorer = _identity(session, version, generation_digest, scorer_version)
    board = board_of(version.project, version.digest, scorer, generation)
    # Tokens name the identity too: a newer evaluation must not switch a reader's board between two pages.
    bound_to = context_digest(*context, board, order, every_evaluation)
    places = _places if every_evaluation else _newest_of_runs
    ranked = places(board, order.name, condition)
    place = _Place()
    if page_token:
        value, last_id, *where = read_token(page_token, 7, bound_to)
        ranked = ranked.where(_after(order, value, last_id))
        place = _Place(*where)
    rows = session.execute(_lines(_sorted(ranked, order).limit(size + 1), order)).all()
    entries = []
    for row in rows[:size]:
        place = _next_place(place, order, row)
        entries.append(Entry(place.group_rank, row, _best(order, row) >= place.leader_worst))
    if with_differences:
        followers = [entry.shown.id for entry in entries if entry.shown.id != place.leader]
        found = differences_to(session, place.leader, followers, order.name) if followers else {}
        entries = [replace(entry, difference=found.get(entry.shown.id)) for entry in entries]
    token = ""
    if len(rows) > size:
        last = rows[size - 1]
        token = make_token(
            [last.value, last.id, *astuple(place)],
            bound_to,
        )
    invalid = _count_invalid(session, board, condition)
    others = _count_other_scorers(session, version, generation, scorer, condition)
    return Board(version, scorer, generation, order, entries, invalid, others, token)


def _identity(session: Session, evalset: EvalSetRow, generation: str, scorer: str) -> tuple[str, str]:
    if generation and scorer:
        return generation, scorer
    newest = session.execute(
        select(col(EvaluationRow.generation_digest), col(EvaluationRow.scorer_version))
        .where(
            EvaluationRow.is_of(evalset.project),
            col(EvaluationRow.evalset_digest) == evalset.digest,
            col(EvaluationRow.state) == JobState.SUCCEEDED.value,
            col(EvaluationRow.archive_time).is_(None),
            col(EvaluationRow.generation_digest) == generation if generation else true(),
            col(EvaluationRow.scorer_version) == scorer if scorer else true(),
        )
        .order_by(col(EvaluationRow.create_time).desc(), col(EvaluationRow.id).desc())
        .limit(1)
    ).first()
    return (generation, scorer) if newest is None else (newest[0], newest[1])


def _places(board: str, name: str, condition: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """Which evaluations have a value of that name on the board, from its index alone where nothing is filtered."""
    places = select(col(ScoreValueRow.evaluation_id)).where(
        col(ScoreValueRow.board) == board, col(ScoreValueRow.name) == name
    )
    if isinstance(condition, True_):
        return places
    return places.join(EvaluationRow, col(EvaluationRow.id) == col(ScoreValueRow.evaluation_id)).where(condition)


def _newest_of_runs(board: str, name: str, condition: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """`_places` without the evaluations of runs that have a newer one there; a model that no run here made has a line
    for each."""
    shown, value = aliased(EvaluationRow), aliased(ScoreValueRow)
    newest = (
        select(col(EvaluationRow.id))
        .join(value, col(value.evaluation_id) == col(EvaluationRow.id))
        .where(
            col(value.board) == board,
            col(value.name) == name,
            (col(EvaluationRow.id) == col(shown.id)) | (col(EvaluationRow.run_id) == col(shown.run_id)),
            condition,
        )
        .order_by(col(EvaluationRow.create_time).desc(), col(EvaluationRow.id).desc())
        .limit(1)
        .correlate(shown)
        .scalar_subquery()
    )
    return (
        _places(board, name, true())
        .join(shown, col(shown.id) == col(ScoreValueRow.evaluation_id))
        .where(col(shown.id) == newest)
    )


def _sorted(places: Select[*tuple[Any, ...]], order: Order) -> Select[*tuple[Any, ...]]:
    value = col(ScoreValueRow.value)
    return places.order_by(value.desc() if order.descending else value.asc(), col(ScoreValueRow.evaluation_id))


def _lines(places: Select[*tuple[Any, ...]], order: Order) -> Select[*tuple[Any, ...]]:
    """What is shown of these places, in the same order: only rows that are shown are read."""
    found = places.subquery("found")
    lines = (
        select(*_SHOWN)
        .join_from(found, ScoreValueRow, col(ScoreValueRow.evaluation_id) == found.c.evaluation_id)
        .join(EvaluationRow, col(EvaluationRow.id) == col(ScoreValueRow.evaluation_id))
        .outerjoin(RunRow, col(RunRow.id) == col(EvaluationRow.run_id))
        .where(col(ScoreValueRow.name) == order.name)
    )
    return _sorted(lines, order)


def _after(order: Order, value: float, last_id: str) -> ColumnElement[bool]:
    """Entries after the last one; the first condition, which the second contains, is where the index is entered."""
    column, later = col(ScoreValueRow.value), col(ScoreValueRow.evaluation_id) > last_id
    if order.descending:
        return (column <= value) & ((column < value) | later)
    return (column >= value) & ((column > value) | later)


def _count_invalid(session: Session, board: str, condition: ColumnElement[bool]) -> int:
    """How many were left out for their coverage."""
    short = _places(board, COVERAGE, condition).where(col(ScoreValueRow.value) < MIN_COVERAGE)
    return session.scalar(short.with_only_columns(func.count(), maintain_column_froms=True)) or 0


def _count_other_scorers(
    session: Session, evalset: EvalSetRow, generation: str, scorer: str, condition: ColumnElement[bool]
) -> int:
    """How many stand on the boards of other scorer versions."""
    version = col(EvaluationRow.scorer_version)

    def count(others: ColumnElement[bool]) -> int:
        found = select(func.count()).where(
            EvaluationRow.is_of(evalset.project),
            col(EvaluationRow.evalset_digest) == evalset.digest,
            col(EvaluationRow.generation_digest) == generation,
            others,
            col(EvaluationRow.state) == JobState.SUCCEEDED.value,
            col(EvaluationRow.archive_time).is_(None),
            condition,
        )
        return session.scalar(found) or 0

    # Two ranges of the index, which are empty as a rule; its middle, which may be long, is not read.
    return count(version < scorer) + count(version > scorer) if scorer else 0


def _next_place(place: _Place, order: Order, row: Row[Any]) -> _Place:
    position, worst = place.before + 1, _worst(order, row)
    if not place.before:
        return _Place(position, position, worst, worst, row.id)
    if _best(order, row) >= place.group_worst:
        return replace(place, before=position)
    return replace(place, before=position, group_rank=position, group_worst=worst)


def _worst(order: Order, row: Row[Any]) -> float:
    """The bad end of the interval, larger being better; without an interval nothing is sure."""
    if order.descending:
        return -inf if row.value_ci_low is None else row.value_ci_low
    return -inf if row.value_ci_high is None else -row.value_ci_high


def _best(order: Order, row: Row[Any]) -> float:
    """The good end of the interval, larger being better."""
    if order.descending:
        return inf if row.value_ci_high is None else row.value_ci_high
    return inf if row.value_ci_low is None else -row.value_ci_low


def leaderboard_message(board: Board) -> pb.Leaderboard:
    """One page of a leaderboard."""
    kind, _, metric = board.order.name.partition(".")
    verifiable = kind != "metrics" or is_built_in(metric)
    return pb.Leaderboard(
        evalset_id=board.evalset.id,
        identity=pb.ScoreIdentity(
            evalset_digest=board.evalset.digest,
            scorer_version=board.scorer_version,
            generation_digest=board.generation_digest,
        ),
        entries=[_entry_message(entry, verifiable) for entry in board.entries],
        next_page_token=board.next_page_token,
        n_invalid=board.n_invalid,
        n_other_scorers=board.n_other_scorers,
        order_by=str(board.order),
    )


def _entry_message(entry: Entry, verifiable: bool) -> pb.LeaderboardEntry:
    row = entry.shown
    return pb.LeaderboardEntry(
        rank=entry.rank,
        evaluation_id=row.id,
        run_id=row.run_id or "",
        run_display_name=row.run_display_name,
        model_id=row.model_id,
        primary_score=row.primary_score,
        ci_low=0.0 if row.ci_low is None else row.ci_low,
        ci_high=1.0 if row.ci_high is None else row.ci_high,
        coverage=row.coverage,
        n_scored=row.n_scored,
        end_time=timestamp(row.end_time),
        verdict=VERDICTS[row.verdict],
        tied_with_first=entry.tied_with_first,
        metric_means=row.metric_means,
        value=row.value,
        value_ci_low=row.value_ci_low,
        value_ci_high=row.value_ci_high,
        dataset_id=row.dataset_id,
        tags=row.tags,
        verified=row.verified and verifiable,
        difference_to_first=None if entry.difference is None else pb.PairedDifference(**asdict(entry.difference)),
    )
