"""Commands that ended in the dead-letter stream: the job that no worker could take up must not wait for ever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tunix_rt.bus.delivery import Delivery, Done
from tunix_rt.errors import FieldViolation, InvalidInput, NotFound
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.jobs.reaper import fail_undeliverable
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.job_tables import JobColumns
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.registry.sweeps.tables import SweepRow

# Fields of the commands in events.proto, in their JSON form.
_JOBS: Final[Mapping[str, type[JobColumns]]] = {
    "runId": RunRow,
    "evaluationId": EvaluationRow,
    "sweepId": SweepRow,
}


class DeadCommands:
    """Fails the job of a command that was given up on, unless somebody works on it after all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def handle(self, delivery: Delivery) -> Done:
        """Idempotent: a job that has ended, or is leased, stays as it is. Raises `InvalidInput` for another message."""
        body = delivery.json()
        for field, table in _JOBS.items():
            if field in body:
                await self._fail(table, delivery.text(field), delivery.subject)
                return Done()
        raise InvalidInput([FieldViolation("data", f"names no job: one of {', '.join(_JOBS)} is required")])

    async def _fail(self, table: type[JobColumns], job_id: str, subject: str) -> None:
        why = f"no worker could carry out its command; the reason is in the dead-letter stream, subject {subject}"
        try:
            await self._database.run_write(lambda session: fail_undeliverable(session, table, job_id, why))
        except NotFound:
            return  # a command from another database, or published by hand
