"""Commands from NATS: a delivery is one claim, one attempt, one completion. Idempotent, for the registry remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic, TypeVar

from tunix_rt.bus.delivery import Delivery, Done, Outcome, Retry
from tunix_rt.errors import (
    Aborted,
    Exhausted,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    PermissionDenied,
    Transient,
    TunixError,
    Unauthenticated,
)
from tunix_rt.observability.logs import bound_ids, get_logger
from tunix_rt.worker.claim import CarryOut, Claim
from tunix_rt.worker.jobs import Ending, Jobs, NotGranted, Released
from tunix_rt.worker.retries import RetryPolicy

P = TypeVar("P")
_RETRY_SECONDS = 2.0
# A worker that stops does not wait indefinitely for an unavailable registry.
_RELEASE_SECONDS = 5.0
_log = get_logger(__name__)


class JobHandler(Generic[P]):
    """Handles commands of one kind of job until ``stop`` is set; then what runs is handed back."""

    def __init__(self, jobs: Jobs, carry_out: CarryOut[P], stop: asyncio.Event, *, heartbeat_seconds: float) -> None:
        self._jobs, self._carry_out, self._stop = jobs, carry_out, stop
        self._heartbeat_seconds = heartbeat_seconds
        self._running: list[str] = []

    @property
    def running(self) -> Sequence[str]:
        """Ids of the jobs that are being carried out."""
        return self._running

    async def __call__(self, delivery: Delivery) -> Outcome:
        job_id = delivery.text("job_id")
        with bound_ids(job_id=job_id):
            try:
                granted = await self._jobs.claim(job_id)
            except Exhausted as error:
                _log.warning("the registry is overloaded", error=str(error))
                return Retry(max(_RETRY_SECONDS, error.retry_after_seconds))
            except Transient as error:
                _log.warning("the registry is unavailable", error=str(error))
                return Retry(_RETRY_SECONDS)
            except Unauthenticated as error:
                _log.warning(
                    "the registry does not know this worker's token; a new one is waited for", error=str(error)
                )
                return Retry(_RETRY_SECONDS)
            except PermissionDenied as error:
                # Of another project: its worker takes it.
                _log.warning("left a job to another worker", error=str(error))
                return Retry(_RETRY_SECONDS)
            except NotFound as error:
                # Of another database, or forged: nobody waits for it, and a dead letter would say nothing.
                _log.warning("ignored a command for a job that does not exist", error=str(error))
                return Done()
            if isinstance(granted, NotGranted):
                return Retry(granted.retry_after_seconds) if granted.retry_after_seconds > 0 else Done()
            with bound_ids(attempt_id=granted.lease.attempt_id):
                self._running.append(job_id)
                try:
                    return await self._attempt(Claim(granted, self._jobs))
                finally:
                    self._running.remove(job_id)

    async def _attempt(self, claim: Claim[P]) -> Outcome:
        """Carry it out and report. The registry sends a new command for what has to be tried again."""
        _log.info("claimed", attempt=claim.lease.epoch)
        try:
            ending = await self._ending(claim)
            _log.info("ended", state=ending.state, reason=ending.reason, message=ending.message)
            await claim.report_last_progress()
            await self._complete(claim, ending)
        except Aborted as error:
            _log.warning("lease lost, stopped", error=str(error))
        except Released as released:
            return await self._release(claim, str(released))
        return Done()

    async def _ending(self, claim: Claim[P]) -> Ending:
        """The attempt's ending, under a lease that is kept. Raises `Aborted` and `Released`."""
        working = asyncio.create_task(self._carry_out(claim, self._stop))
        beating = asyncio.create_task(claim.send_heartbeats(self._heartbeat_seconds))
        try:
            await asyncio.wait((working, beating), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                beating.result()  # raises: heartbeats end only with the lease
            return working.result()
        except (Aborted, Released):
            raise
        except Exception as error:
            _log.exception("the attempt failed")
            return Ending("FAILED", "INTERNAL", f"{type(error).__name__}: {error}", retryable=True)
        finally:
            for task in (working, beating):
                task.cancel()
            await asyncio.gather(working, beating, return_exceptions=True)

    async def _complete(self, claim: Claim[P], ending: Ending) -> None:
        retries = RetryPolicy("the registry")
        try:
            await retries.call(lambda: self._jobs.complete(claim.lease, ending))
        except (FailedPrecondition, InvalidInput) as error:
            if ending.state == "FAILED":
                raise
            _log.exception("the registry refuses the ending")
            message = f"the registry refuses the result: {error}"
            refused = Ending("FAILED", "INTERNAL", message, retryable=ending.retryable)
            await retries.call(lambda: self._jobs.complete(claim.lease, refused))

    async def _release(self, claim: Claim[P], message: str) -> Outcome:
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await RetryPolicy("the registry").call(lambda: self._jobs.release(claim.lease, message))
        except Aborted:
            return Done()
        except (TunixError, TimeoutError) as error:
            _log.warning("cannot release, the lease will expire", error=str(error))
            return Retry(_RETRY_SECONDS)
        _log.info("handed back", message=message)
        return Done()
