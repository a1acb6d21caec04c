"""``tunix.cmd.train.<pool>``: a delivery is one claim, one attempt, one report.

Idempotent, for the registry remembers.
"""

from __future__ import annotations

import asyncio

from tunix_rt.bus.delivery import Delivery, Done, Outcome, Retry
from tunix_rt.errors import Aborted, FailedPrecondition, FieldViolation, InvalidInput, NotFound, Transient, TunixError
from tunix_rt.observability.logs import bound_ids, get_logger
from tunix_rt.trainer.attempt import Attempt, Supervision
from tunix_rt.trainer.patience import until_answered
from tunix_rt.trainer.spec_messages import run_id_of
from tunix_rt.trainer.work import ClaimedAttempt, Ending, NotGranted, Registry, Released

_RETRY_SECONDS = 2.0
_RELEASE_SECONDS = 5.0
_log = get_logger(__name__)


class TrainHandler:
    """Handles train commands, one at a time, until ``stop`` is set; then hands the attempt under way back."""

    def __init__(self, registry: Registry, supervision: Supervision, stop: asyncio.Event) -> None:
        self._registry, self._supervision, self._stop = registry, supervision, stop
        self._current = ""

    @property
    def current_run_id(self) -> str:
        """The run being trained; empty when idle."""
        return self._current

    async def __call__(self, delivery: Delivery) -> Outcome:
        run_id = run_id_of(delivery.json())
        with bound_ids(run_id=run_id):
            try:
                claim = await self._registry.claim(run_id)
            except Transient as error:
                _log.warning("the registry is away", error=str(error))
                return Retry(_RETRY_SECONDS)
            except NotFound as error:
                raise InvalidInput([FieldViolation("data.run_id", str(error))]) from error
            if isinstance(claim, NotGranted):
                return Retry(claim.retry_after_seconds) if claim.retry_after_seconds > 0 else Done()
            with bound_ids(attempt_id=claim.lease.attempt_id):
                self._current = run_id
                try:
                    return await self._attempt(claim)
                finally:
                    self._current = ""

    async def _attempt(self, claimed: ClaimedAttempt) -> Outcome:
        """Carry it out and report. The registry sends a new command for what has to be tried again."""
        _log.info("training", attempt=claimed.lease.epoch, base_model=claimed.base_model)
        try:
            ending = await Attempt(claimed, self._registry, self._supervision).run(self._stop)
        except Aborted as error:
            _log.warning("lease lost, stopped", error=str(error))
            return Done()
        except Released:
            return await self._release(claimed)
        except (TunixError, OSError, ExceptionGroup) as error:
            # The registry refused what we sent, or this machine could not start a process.
            _log.exception("supervision failed")
            ending = Ending("FAILED", "INTERNAL", f"{type(error).__name__}: {error}", retryable=True)
        _log.info("trained", state=ending.state, reason=ending.reason, message=ending.text, step=ending.step)
        try:
            await self._report(claimed, ending)
        except Aborted as error:
            _log.warning("lease lost before the report", error=str(error))
        return Done()

    async def _report(self, claimed: ClaimedAttempt, ending: Ending) -> None:
        try:
            await until_answered(lambda: self._registry.complete(claimed.lease, ending))
        except (FailedPrecondition, InvalidInput) as error:
            if ending.state == "FAILED":
                raise
            _log.exception("the registry refuses the ending")
            refused = Ending("FAILED", "INTERNAL", f"the registry refuses the result: {error}", ending.step)
            await until_answered(lambda: self._registry.complete(claimed.lease, refused))

    async def _release(self, claimed: ClaimedAttempt) -> Outcome:
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await until_answered(lambda: self._registry.release(claimed.lease, "the trainer stops"))
        except Aborted:
            return Done()
        except (TunixError, TimeoutError) as error:
            _log.warning("cannot release, the lease will expire", error=str(error))
            return Retry(_RETRY_SECONDS)
        _log.info("handed back")
        return Done()
