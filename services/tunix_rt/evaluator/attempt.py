"""One attempt at an evaluation: generate what is missing, record it as it comes, beat the heart, obey."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from tunix_rt.errors import FailedPrecondition, InvalidArtifact, InvalidInput, NotFound
from tunix_rt.evaluator.generating import Generating
from tunix_rt.evaluator.work import Cancelled, Ending, Evaluation, Inferencer, Progress, Registry, Result
from tunix_rt.quality.scorers import BUILT_IN_SCORERS, ScorerSet
from tunix_rt.rpc.patience import OutOfPatience, Patience

_FLUSH_SECONDS = 0.5
_LAST_FLUSH_SECONDS = 3.0


@dataclass(frozen=True)
class Limits:
    """How much at once, how often, and for how long (seconds); see EvaluatorSettings."""

    concurrency: int
    batch: int
    item_tries: int
    inferencer_patience_seconds: float
    heartbeat_seconds: float


class Released(Exception):
    """The service stops: the evaluation goes back to the queue, with everything that was generated."""


class Attempt:
    """Carries out one claimed evaluation. Use `run` once."""

    def __init__(
        self,
        evaluation: Evaluation,
        registry: Registry,
        inferencer: Inferencer,
        limits: Limits,
        scorers: ScorerSet = BUILT_IN_SCORERS,
    ) -> None:
        self._evaluation = evaluation
        self._registry = registry
        self._limits = limits
        self._inferencer_patience = Patience("the inferencer", limits.inferencer_patience_seconds)
        # The registry may be away for as long as it likes: nothing that was generated is thrown away.
        self._registry_patience = Patience("the registry", None)
        self._generating = Generating(evaluation, inferencer, self._inferencer_patience, limits.item_tries, scorers)
        self._unrecorded: list[Result] = []
        self._changed = asyncio.Event()
        self._recorded = len(evaluation.recorded)
        self._stage = "loading the model"

    async def run(self, stop: asyncio.Event) -> Ending:
        """How the attempt ended; the caller reports it. Raises `Aborted` (lease lost) and `Released` (``stop`` set)."""
        working = asyncio.create_task(self._work())
        beating = asyncio.create_task(self._beat())
        stopping = asyncio.create_task(stop.wait())
        tasks = (working, beating, stopping)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if beating.done():
                cancelled = beating.result()
                return Ending("CANCELLED", cancelled.reason, "cancelled while it ran")
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            async with asyncio.timeout(_LAST_FLUSH_SECONDS):
                await self._flush_all()
            raise Released
        except TimeoutError:
            raise Released from None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> Ending:
        try:
            model = await self._generating.model()
        except (InvalidArtifact, NotFound, FailedPrecondition) as error:
            return Ending("FAILED", "INVALID_ARTIFACT", f"the model cannot be loaded: {error}")
        except InvalidInput as error:
            return Ending("FAILED", "INVALID_SPEC", f"the inferencer refuses the model: {error}")
        except OutOfPatience as error:
            return Ending("FAILED", "INTERNAL", str(error), retryable=True)
        self._stage = "generating"
        try:
            await self._generate_everything()
        except OutOfPatience as error:
            return Ending("FAILED", "INTERNAL", str(error), retryable=True)
        except (InvalidArtifact, NotFound) as error:
            return Ending("FAILED", "INVALID_ARTIFACT", f"the model cannot be loaded again: {error}")
        return Ending("SUCCEEDED", model_digest=model.digest)

    async def _generate_everything(self) -> None:
        """Generate and record every missing pair; the first error ends it all."""
        missing = self._evaluation.missing()
        todo = iter(missing)

        async def generate() -> None:
            for item, sample in todo:
                self._unrecorded.append(await self._generating.result(item, sample))
                self._changed.set()

        tasks = [asyncio.create_task(generate()) for _ in range(min(self._limits.concurrency, len(missing)))]
        tasks.append(asyncio.create_task(self._record(len(missing))))
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _record(self, left: int) -> None:
        """Record ``left`` results in order of completion: a full batch at once, fewer after half a second."""
        while left > 0:
            await self._changed.wait()
            if len(self._unrecorded) < min(self._limits.batch, left):
                await asyncio.sleep(_FLUSH_SECONDS)
            self._changed.clear()
            left -= await self._flush_all()

    async def _flush_all(self) -> int:
        """Record what is waiting, a batch at a time; returns how many. Raises `Aborted` when the lease is lost."""
        flushed = 0
        while self._unrecorded:
            batch = self._unrecorded[: self._limits.batch]
            await self._registry_patience.call(partial(self._registry.record, self._evaluation.lease, batch))
            # Recording is idempotent: a cancellation right here only means that they are sent again.
            del self._unrecorded[: len(batch)]
            self._recorded += len(batch)
            flushed += len(batch)
        return flushed

    async def _beat(self) -> Cancelled:
        """Extend the lease until cancellation is asked for. A registry that is away is no reason to stop."""
        while True:
            stage = "waiting for the inferencer" if self._inferencer_patience.waiting else self._stage
            progress = Progress(self._recorded, self._evaluation.total, stage)
            answer = await self._registry_patience.call(
                partial(self._registry.heartbeat, self._evaluation.lease, progress)
            )
            if answer is not None:
                return answer
            await asyncio.sleep(self._limits.heartbeat_seconds)
