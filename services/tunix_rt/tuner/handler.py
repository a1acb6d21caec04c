"""``tunix.cmd.tune``: a delivery is one claim, one attempt, one report. Idempotent, for the registry remembers."""

from __future__ import annotations

import asyncio

from tunix_rt.bus.delivery import Delivery, Done, Outcome, Retry
from tunix_rt.errors import (
    Aborted,
    FailedPrecondition,
    FieldViolation,
    InvalidInput,
    NotFound,
    Transient,
    TunixError,
)
from tunix_rt.observability.logs import bound_ids, get_logger
from tunix_rt.rpc.patience import Patience
from tunix_rt.tuner.attempt import Limits, Released, ask, run_attempt
from tunix_rt.tuner.work import Ending, NotGranted, Registry, Sweep

_RETRY_SECONDS = 2.0
_log = get_logger(__name__)


class TuneHandler:
    """Handles tune commands until ``stop`` is set; then hands running sweeps back."""

    def __init__(self, registry: Registry, limits: Limits, stop: asyncio.Event) -> None:
        self._registry = registry
        self._limits = limits
        self._stop = stop

    async def __call__(self, delivery: Delivery) -> Outcome:
        sweep_id = delivery.text("sweep_id")
        with bound_ids(sweep_id=sweep_id):
            try:
                claim = await self._registry.claim(sweep_id)
            except Transient as error:
                _log.warning("the registry is away", error=str(error))
                return Retry(_RETRY_SECONDS)
            except NotFound as error:
                raise InvalidInput([FieldViolation("data.sweep_id", str(error))]) from error
            if isinstance(claim, NotGranted):
                return Retry(claim.retry_after_seconds) if claim.retry_after_seconds > 0 else Done()
            with bound_ids(attempt_id=claim.lease.attempt_id):
                return await self._attempt(claim)

    async def _attempt(self, sweep: Sweep) -> Outcome:
        """Carry it out and report. The registry sends a new command for what has to be tried again."""
        _log.info("tuning", samples=sweep.spec.num_samples, max_concurrent=sweep.spec.max_concurrent_trials)
        try:
            ending = await run_attempt(sweep, self._registry, self._limits, self._stop)
        except Aborted as error:
            _log.warning("lease lost, stopping", error=str(error))
            return Done()
        except Released as released:
            return await self._release(sweep, str(released))
        except TunixError as error:
            _log.exception("sweep failed")
            ending = Ending("FAILED", "INTERNAL", str(error), retryable=True)
        _log.info("tuned", state=ending.state, reason=ending.reason, message=ending.message)
        try:
            return await self._report(sweep, ending)
        except Aborted as error:
            _log.warning("lease lost before the report", error=str(error))
            return Done()

    async def _report(self, sweep: Sweep, ending: Ending) -> Outcome:
        patience = Patience("the registry", None)
        try:
            await patience.call(lambda: self._registry.complete(sweep.lease, ending))
        except FailedPrecondition as error:
            if ending.state != "SUCCEEDED":
                raise
            wishes = await ask(sweep, self._registry, patience)
            if wishes.num_samples > sweep.spec.num_samples:
                return await self._release(sweep, "the sweep was extended when its last trial had ended")
            # Such as a trial that has not ended: Ray lost sight of it, the next attempt finds it again.
            refused = Ending("FAILED", "INTERNAL", f"the registry refuses the end: {error}", retryable=True)
            await patience.call(lambda: self._registry.complete(sweep.lease, refused))
        return Done()

    async def _release(self, sweep: Sweep, message: str) -> Outcome:
        _log.info("handing back", message=message)
        try:
            await self._registry.release(sweep.lease, message)
        except Aborted:
            return Done()
        except TunixError as error:
            _log.warning("cannot release, the lease will expire", error=str(error))
            return Retry(_RETRY_SECONDS)
        return Done()
