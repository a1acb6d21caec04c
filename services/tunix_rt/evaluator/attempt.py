"""One attempt at an evaluation: generates what is missing and records it as it comes."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial

from tunix_rt.contract.generation import prompts_problem
from tunix_rt.errors import FailedPrecondition, InvalidArtifact, InvalidInput, NotFound
from tunix_rt.evaluator.generating import Generating
from tunix_rt.evaluator.messages import evaluation_of
from tunix_rt.evaluator.work import Inferencer, Recorder, Result
from tunix_rt.quality.scorers import BUILT_IN_SCORERS, ScorerSet
from tunix_rt.v1.jobs_pb2 import EvaluationPayload, EvaluationResult
from tunix_rt.worker.claim import Claim, unless_interrupted
from tunix_rt.worker.jobs import Ending, Progress, Released
from tunix_rt.worker.retries import RetriesExhausted, RetryPolicy

_FLUSH_SECONDS = 0.5
_FINAL_FLUSH_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True)
class Limits:
    """How much at once, and for how long (seconds); see EvaluatorSettings."""

    concurrency: int
    batch: int
    item_tries: int
    inferencer_patience_seconds: float


class Attempt:
    """Carries out one claimed evaluation. Use `run` once."""

    def __init__(
        self,
        claim: Claim[EvaluationPayload],
        recorder: Recorder,
        inferencer: Inferencer,
        limits: Limits,
        scorers: ScorerSet = BUILT_IN_SCORERS,
    ) -> None:
        self._claim = claim
        self._evaluation = evaluation_of(claim.payload)
        self._recorder = recorder
        self._limits = limits
        self._scorers = scorers
        self._inferencer_retries = RetryPolicy("the inferencer", limits.inferencer_patience_seconds)
        # Outages of the registry of any length are tolerated: generated answers are kept.
        self._recorder_retries = RetryPolicy("the registry")
        self._generating = Generating(
            self._evaluation, inferencer, self._inferencer_retries, limits.item_tries, scorers
        )
        self._unrecorded: list[Result] = []
        self._changed = asyncio.Event()
        self._recorded = len(self._evaluation.recorded)
        self._stage = "loading the model"
        claim.progress = self._progress

    async def run(self, stop: asyncio.Event) -> Ending:
        """How the attempt ended. Raises `Aborted` (lease lost) and `Released` (``stop`` set)."""
        try:
            return await unless_interrupted(self._work(), self._claim, stop)
        except Released:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FINAL_FLUSH_TIMEOUT_SECONDS):
                    await self._flush_all()
            raise

    def _progress(self) -> Progress:
        stage = "waiting for the inferencer" if self._inferencer_retries.waiting else self._stage
        return Progress(self._recorded, self._evaluation.total, "items", stage)

    async def _work(self) -> Ending:
        problem = prompts_problem(self._evaluation.generation.prompt_version)
        if problem is not None and self._evaluation.missing():
            return Ending("FAILED", "INVALID_SPEC", f"generation.prompt_version: {problem}: create a new evaluation")
        try:
            model = await self._generating.model()
        except (InvalidArtifact, NotFound, FailedPrecondition) as error:
            return Ending("FAILED", "INVALID_ARTIFACT", f"the model cannot be loaded: {error}")
        except InvalidInput as error:
            return Ending("FAILED", "INVALID_SPEC", f"the inferencer refuses the model: {error}")
        except RetriesExhausted as error:
            return Ending("FAILED", "INTERNAL", str(error), retryable=True)
        self._stage = "generating"
        try:
            await self._generate_everything()
        except RetriesExhausted as error:
            return Ending("FAILED", "INTERNAL", str(error), retryable=True)
        except (InvalidArtifact, NotFound) as error:
            return Ending("FAILED", "INVALID_ARTIFACT", f"the model cannot be loaded again: {error}")
        result = EvaluationResult(model_digest=model.digest, scorer_version=self._scorers.version)
        return Ending("SUCCEEDED", result=result)

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
            await self._recorder_retries.call(partial(self._recorder.record, self._claim.lease, batch))
            # Recording is idempotent: a cancellation right here only means that they are sent again.
            del self._unrecorded[: len(batch)]
            self._recorded += len(batch)
            flushed += len(batch)
        return flushed
