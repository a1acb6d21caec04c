"""What a spec may refer to: looks up the things that other resources own, within the caller's session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import NotFound
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.evalsets.rules import get_evalset
from tunix_rt.registry.gates.tables import GatePolicyRow
from tunix_rt.registry.models.rules import get_model
from tunix_rt.registry.runs.tables import CheckpointRow, RunRow, run_spec
from tunix_rt.v1 import runs_pb2 as pb


@dataclass(frozen=True)
class PolicyReference:
    """A gate policy, and the baseline that it holds candidates against ("" is none)."""

    id: str
    baseline: str


@dataclass(frozen=True)
class CheckpointedRun:
    """A run's spec, and the steps of its checkpoints that are still there, newest first."""

    spec: pb.RunSpec
    steps: tuple[int, ...]


class Catalogue(Protocol):
    """Answers whether what a spec names exists; each method gives the id, or None."""

    def dataset(self, dataset_id: str) -> str | None:
        """A dataset by id."""

    def evalset(self, id_or_key: str) -> str | None:
        """An evalset by id, or the newest version of a key."""

    def gate_policy(self, id_or_name: str) -> PolicyReference | None:
        """A gate policy by id, or the newest version of a name."""

    def model(self, name: str) -> str | None:
        """A model version by id, ``name@alias`` or ``name/version``."""

    def checkpointed_run(self, run_id: str) -> CheckpointedRun | None:
        """A run by id, with its checkpoints."""


class StoredCatalogue:
    """The catalogue in the registry's tables."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def dataset(self, dataset_id: str) -> str | None:
        """A dataset by id. Locked until the transaction ends, so that it cannot be deleted under the new spec."""
        statement = select(col(DatasetRow.id)).where(col(DatasetRow.id) == dataset_id).with_for_update(read=True)
        return self._session.execute(statement).scalars().first()

    def evalset(self, id_or_key: str) -> str | None:
        """An evalset by id, or the newest version of a key."""
        try:
            return get_evalset(self._session, id_or_key).id
        except NotFound:
            return None

    def gate_policy(self, id_or_name: str) -> PolicyReference | None:
        """A gate policy by id, or the newest version of a name."""
        row = self._session.get(GatePolicyRow, id_or_name)
        if row is None:
            row = self._session.scalars(
                select(GatePolicyRow)
                .where(col(GatePolicyRow.name) == id_or_name)
                .order_by(col(GatePolicyRow.version).desc())
                .limit(1)
            ).first()
        return None if row is None else PolicyReference(row.id, row.baseline)

    def model(self, name: str) -> str | None:
        """A model version by id, ``name@alias`` or ``name/version``."""
        try:
            return get_model(self._session, name).id
        except NotFound:
            return None

    def checkpointed_run(self, run_id: str) -> CheckpointedRun | None:
        """A run by id, with its checkpoints."""
        run = self._session.get(RunRow, run_id)
        if run is None:
            return None
        there = select(col(CheckpointRow.step)).where(
            col(CheckpointRow.run_id) == run_id, col(CheckpointRow.removed).is_(False)
        )
        steps = self._session.scalars(there.order_by(col(CheckpointRow.step).desc())).all()
        return CheckpointedRun(run_spec(run), tuple(steps))
