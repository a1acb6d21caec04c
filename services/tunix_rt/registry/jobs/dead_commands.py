"""Commands that ended in the dead-letter stream: the job that no worker could take up must not wait for ever."""

from __future__ import annotations

from tunix_rt.bus.delivery import Delivery, Done
from tunix_rt.errors import NotFound
from tunix_rt.registry.jobs.kinds import kind_of
from tunix_rt.registry.jobs.reaper import fail_undeliverable
from tunix_rt.registry.kernel.database import Database


class DeadCommands:
    """Fails the job of a command that was given up on, unless somebody works on it after all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def handle(self, delivery: Delivery) -> Done:
        """Idempotent: a job that has ended, or is leased, stays as it is. Raises `InvalidInput` for another message."""
        job_id = delivery.text("job_id")
        why = "no worker could carry out its command; the reason is in the dead-letter stream, subject "
        why += delivery.subject
        try:
            table = kind_of(job_id).table
            await self._database.run_write(lambda session: fail_undeliverable(session, table, job_id, why))
        except NotFound:
            pass  # a command from another database, or published by hand
        return Done()
