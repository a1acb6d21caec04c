"""The resources that can be archived and deleted: what each is called, who rests on it, what guards it, and its parts.

A user rests on a resource and can go with it; a guard is history, or points at it, and keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, delete, or_, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import NotFound
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.evalsets.tables import EvalSetItemRow, EvalSetRow
from tunix_rt.registry.evaluations.tables import (
    EvaluationRow,
    ItemResultRow,
    PastItemScoreRow,
    PastScoreRow,
    ScoreValueRow,
)
from tunix_rt.registry.gates.tables import GateDecisionRow
from tunix_rt.registry.kernel.job_tables import AttemptRow, TransitionRow
from tunix_rt.registry.kernel.states import TERMINAL, JobState
from tunix_rt.registry.models.tables import AliasRow, BaselineRow, ModelVersionRow, PromotionRow, WaiverRow
from tunix_rt.registry.runs.tables import CheckpointRow, RunRow
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow

Condition = Callable[[Any], ColumnElement[bool]]


@dataclass(frozen=True)
class Use:
    """Rows of ``table`` for which ``condition`` (of the resource) holds rest on it; ``why`` follows their name."""

    table: Any
    why: str
    condition: Condition


@dataclass(frozen=True)
class Guard:
    """Rows of ``table`` that keep a resource; ``name`` is how an error calls one."""

    table: Any
    condition: Condition
    name: Callable[[Any], str]


@dataclass(frozen=True)
class Kind:
    """One kind of resource. Rows of a lower ``order`` are deleted first, because they refer to others.

    ``erase`` deletes the rows that are parts of it, and what others say about it. ``unfinished``: its largest parts
    stay behind for the retention loop.
    """

    name: str
    table: Any
    order: int
    title: Callable[[Any], str]
    uses: Sequence[Use] = ()
    guards: Sequence[Guard] = ()
    erase: Callable[[Session, Any], None] = lambda session, row: None
    unfinished: bool = False


def kind_of(resource_id: str) -> Kind:
    """The kind of an id. Raises `NotFound` for what is no id of such a resource."""
    kind = KINDS.get(resource_id.partition("-")[0])
    if kind is None:
        raise NotFound(f"there is no {', '.join(kind.name for kind in KINDS.values())} {resource_id!r}")
    return kind


def kind_of_row(row: Any) -> Kind:
    """The kind of a row."""
    return kind_of(row.id)


def _open(table: Any) -> ColumnElement[bool]:
    return col(table.state).in_([str(state) for state in JobState if state not in TERMINAL])


def _in_spec(table: Any, text: str) -> ColumnElement[bool]:
    """Whether a job that has not ended names ``text`` in its spec."""
    return and_(_open(table), col(table.spec).contains(f'"{text}"', autoescape=True))


def _sweeps_of(trials: ColumnElement[bool]) -> Select[Any]:
    return select(col(TrialRow.sweep_id)).where(trials)


def _erase_history(session: Session, job_ids: Sequence[str]) -> None:
    session.execute(delete(AttemptRow).where(col(AttemptRow.job_id).in_(job_ids)))
    session.execute(delete(TransitionRow).where(col(TransitionRow.job_id).in_(job_ids)))


def _erase_run(session: Session, run: RunRow) -> None:
    session.execute(delete(CheckpointRow).where(col(CheckpointRow.run_id) == run.id))
    _erase_history(session, [run.id])


def _erase_evaluation(session: Session, evaluation: EvaluationRow) -> None:
    for table in (ItemResultRow, ScoreValueRow, PastItemScoreRow, PastScoreRow):
        session.execute(delete(table).where(col(table.evaluation_id) == evaluation.id))
    _erase_history(session, [evaluation.id])
    run = None if evaluation.run_id is None else session.get(RunRow, evaluation.run_id)
    if run is not None and evaluation.id in run.evaluation_ids:
        run.evaluation_ids = [each for each in run.evaluation_ids if each != evaluation.id]
        run.revision += 1


def _erase_model(session: Session, model: ModelVersionRow) -> None:
    run = None if model.run_id is None else session.get(RunRow, model.run_id)
    if run is not None and run.model_id == model.id:
        run.model_id = None
        run.revision += 1


def _erase_sweep(session: Session, sweep: SweepRow) -> None:
    trials = session.scalars(select(col(TrialRow.id)).where(col(TrialRow.sweep_id) == sweep.id)).all()
    session.execute(delete(TrialRow).where(col(TrialRow.sweep_id) == sweep.id))
    _erase_history(session, [sweep.id, *trials])


def _erase_evalset(session: Session, evalset: EvalSetRow) -> None:
    session.execute(delete(EvalSetItemRow).where(col(EvalSetItemRow.evalset_id) == evalset.id))


EVALUATION: Final = Kind(
    "evaluation",
    EvaluationRow,
    0,
    lambda row: f"{row.model_name or row.model_id} on {row.evalset_key}",
    uses=(
        Use(
            SweepRow,
            "has a trial whose objective it is",
            lambda row: col(SweepRow.id).in_(_sweeps_of(col(TrialRow.evaluation_id) == row.id)),
        ),
    ),
    guards=(
        Guard(
            GateDecisionRow,
            lambda row: or_(
                col(GateDecisionRow.candidate_evaluation_id) == row.id,
                col(GateDecisionRow.baseline_evaluation_id) == row.id,
            ),
            lambda found: f"gate decision {found.id}",
        ),
        Guard(
            BaselineRow,
            lambda row: col(BaselineRow.evaluation_id) == row.id,
            lambda found: f"baseline {found.name} (revision {found.revision})",
        ),
    ),
    erase=_erase_evaluation,
)
MODEL: Final = Kind(
    "model",
    ModelVersionRow,
    1,
    lambda row: f"{row.name}/{row.version}",
    uses=(
        Use(EvaluationRow, "evaluates it", lambda row: col(EvaluationRow.model_id) == row.id),
        Use(RunRow, "was trained from it", lambda row: col(RunRow.base_model) == f"model://{row.id}"),
    ),
    guards=(
        Guard(
            AliasRow, lambda row: col(AliasRow.model_id) == row.id, lambda found: f"{found.model_name}@{found.alias}"
        ),
        Guard(
            PromotionRow,
            lambda row: or_(col(PromotionRow.to_model_id) == row.id, col(PromotionRow.from_model_id) == row.id),
            lambda found: f"promotion {found.id} of {found.model_name}@{found.alias}",
        ),
        Guard(WaiverRow, lambda row: col(WaiverRow.model_id) == row.id, lambda found: f"waiver {found.id}"),
        Guard(
            BaselineRow,
            lambda row: col(BaselineRow.model_id) == row.id,
            lambda found: f"baseline {found.name} (revision {found.revision})",
        ),
    ),
    erase=_erase_model,
)
RUN: Final = Kind(
    "run",
    RunRow,
    2,
    lambda row: row.display_name,
    uses=(
        Use(ModelVersionRow, "was made by it", lambda row: col(ModelVersionRow.run_id) == row.id),
        Use(EvaluationRow, "evaluates its model", lambda row: col(EvaluationRow.run_id) == row.id),
        Use(RunRow, "begins at its checkpoint", lambda row: col(RunRow.initial_run_id) == row.id),
        Use(SweepRow, "has it as a trial", lambda row: col(SweepRow.id) == (row.sweep_id or "")),
    ),
    erase=_erase_run,
    unfinished=True,
)
SWEEP: Final = Kind(
    "sweep",
    SweepRow,
    3,
    lambda row: row.display_name,
    uses=(Use(RunRow, "is a trial of it", lambda row: col(RunRow.sweep_id) == row.id),),
    erase=_erase_sweep,
)
EVALSET: Final = Kind(
    "evalset",
    EvalSetRow,
    4,
    lambda row: row.key,
    uses=(
        Use(EvaluationRow, "evaluates on it", lambda row: col(EvaluationRow.evalset_id) == row.id),
        Use(RunRow, "will be evaluated on it", lambda row: _in_spec(RunRow, row.id)),
        Use(SweepRow, "will be evaluated on it", lambda row: _in_spec(SweepRow, row.id)),
    ),
    erase=_erase_evalset,
)
DATASET: Final = Kind(
    "dataset",
    DatasetRow,
    5,
    lambda row: row.key,
    uses=(
        Use(RunRow, "was trained on it", lambda row: col(RunRow.dataset_id) == row.id),
        Use(SweepRow, "trains on it", lambda row: _in_spec(SweepRow, row.id)),
    ),
)
# By the prefix of their ids.
KINDS: Final[Mapping[str, Kind]] = {
    "run": RUN,
    "sweep": SWEEP,
    "eval": EVALUATION,
    "model": MODEL,
    "ds": DATASET,
    "es": EVALSET,
}
