"""``tunix.cmd.evaluate``: a delivery is one claim, one attempt, one report. Idempotent, for the registry remembers."""

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
from tunix_rt.evaluator.attempt import Attempt, Limits, Released
from tunix_rt.evaluator.work import Ending, Evaluation, Inferencer, NotGranted, Registry
from tunix_rt.observability.logs import bound_ids, get_logger
from tunix_rt.quality.scorers import BUILT_IN_SCORERS, ScorerSet
from tunix_rt.rpc.patience import Patience

_RETRY_SECONDS = 2.0
_log = get_logger(__name__)


class EvaluateHandler:
    """Handles evaluate commands until ``stop`` is set; then hands running evaluations back."""

    def __init__(
        self,
        registry: Registry,
        inferencer: Inferencer,
        limits: Limits,
        stop: asyncio.Event,
        scorers: ScorerSet = BUILT_IN_SCORERS,
    ) -> None:
        self._registry = registry
        self._inferencer = inferencer
        self._limits = limits
        self._stop = stop
        self._scorers = scorers

    async def __call__(self, delivery: Delivery) -> Outcome:
        evaluation_id = delivery.text("evaluation_id")
        with bound_ids(evaluation_id=evaluation_id):
            try:
                claim = await self._registry.claim(evaluation_id)
            except Transient as error:
                _log.warning("the registry is away", error=str(error))
                return Retry(_RETRY_SECONDS)
            except NotFound as error:
                raise InvalidInput([FieldViolation("data.evaluation_id", str(error))]) from error
            if isinstance(claim, NotGranted):
                return Retry(claim.retry_after_seconds) if claim.retry_after_seconds > 0 else Done()
            with bound_ids(attempt_id=claim.lease.attempt_id):
                return await self._attempt(claim)

    async def _attempt(self, evaluation: Evaluation) -> Outcome:
        """Carry it out and report. The registry sends a new command for what has to be tried again."""
        _log.info("evaluating", missing=len(evaluation.missing()), total=evaluation.total)
        try:
            attempt = Attempt(evaluation, self._registry, self._inferencer, self._limits, self._scorers)
            ending = await attempt.run(self._stop)
        except Aborted as error:
            _log.warning("lease lost, stopping", error=str(error))
            return Done()
        except Released:
            return await self._release(evaluation)
        except TunixError as error:
            # The registry refused what we sent, or the inferencer did something that has no better name.
            _log.exception("evaluation failed")
            ending = Ending("FAILED", "INTERNAL", str(error), retryable=True)
        _log.info("evaluated", state=ending.state, reason=ending.reason, message=ending.message)
        try:
            await self._report(evaluation, ending)
        except Aborted as error:
            _log.warning("lease lost before the report", error=str(error))
        return Done()

    async def _report(self, evaluation: Evaluation, ending: Ending) -> None:
        patience = Patience("the registry", None)
        try:
            await patience.call(lambda: self._registry.complete(evaluation.lease, ending))
        except FailedPrecondition as error:
            if ending.state != "SUCCEEDED":
                raise
            # Such as another scorer version than the registry's: repeating does not help.
            refused = Ending("FAILED", "INTERNAL", f"the registry refuses the result: {error}")
            await patience.call(lambda: self._registry.complete(evaluation.lease, refused))

    async def _release(self, evaluation: Evaluation) -> Outcome:
        try:
            await self._registry.release(evaluation.lease, "the evaluator stops")
        except Aborted:
            return Done()
        except TunixError as error:
            _log.warning("cannot release, the lease will expire", error=str(error))
            return Retry(_RETRY_SECONDS)
        return Done()
