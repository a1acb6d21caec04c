"""One attempt under supervision.

Starts the training process, relays what it says, obeys the registry, tells how it ended.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from tunix_rt.errors import Aborted, Transient, TunixError
from tunix_rt.observability.logs import get_logger
from tunix_rt.trainer.job import Job, Member
from tunix_rt.trainer.memory import ADVICE, out_of_memory_kills
from tunix_rt.trainer.messages import (
    Acknowledged,
    CheckpointWritten,
    Completed,
    Failed,
    HandBack,
    HandedBack,
    Logged,
    MetricsMeasured,
    ProgressMade,
)
from tunix_rt.trainer.process import TrainingProcess
from tunix_rt.trainer.reporting import Reporter
from tunix_rt.trainer.work import CancelAsked, ClaimedAttempt, Ending, Registry, Released

# A worker that stops does not wait for ever for a registry that is away.
_LAST_WORDS_SECONDS = 5.0
_log = get_logger(__name__)


@dataclass(frozen=True)
class Supervision:
    """How closely an attempt is watched (seconds), and where it works."""

    work_dir: Path
    cache_dir: Path
    artifacts_uri: str
    heartbeat_seconds: float = 2.0
    report_seconds: float = 1.0
    hand_back_seconds: float = 20.0
    cancel_seconds: float = 1.0
    compilation_cache: bool = True
    simulated_devices: int = 0
    member: Member | None = None


class Attempt:
    """Carries out a claimed attempt once."""

    def __init__(self, claimed: ClaimedAttempt, registry: Registry, supervision: Supervision) -> None:
        self._claimed, self._registry, self._supervision = claimed, registry, supervision
        self._directory = supervision.work_dir / claimed.lease.attempt_id
        self._progress = ProgressMade("starting", 0, claimed.hyperparameters.max_steps or 0)
        self._cancelled: CancelAsked | None = None
        self._cancelling = asyncio.Event()
        self._handing_back = False

    async def run(self, stop: asyncio.Event) -> Ending:
        """Train until it ends; everything reported is durable when this returns.

        Raises `Aborted` when the lease is lost, and `Released` when ``stop`` was set: then a checkpoint has been
        taken if there was time. The training process is gone in every case.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            return await self._supervise(stop)
        except* Aborted as lost:
            raise Aborted(str(lost.exceptions[0])) from lost
        finally:
            await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    async def _supervise(self, stop: asyncio.Event) -> Ending:
        job_file = self._directory / "job.json"
        self._job().write(job_file)
        kills = out_of_memory_kills()
        process = await TrainingProcess.start(job_file, simulated_devices=self._supervision.simulated_devices)
        _log.info("training process started", pid=process.pid)
        reporter = Reporter(self._registry, self._claimed.lease, lambda step: process.tell(Acknowledged(step)))
        try:
            async with asyncio.TaskGroup() as group:
                watchers = [
                    group.create_task(self._keep_lease()),
                    group.create_task(self._listen()),
                    group.create_task(self._end_on_cancellation(process)),
                    group.create_task(reporter.run(self._supervision.report_seconds)),
                    group.create_task(self._hand_back_on(stop, process)),
                ]
                ending = await self._follow(process, reporter, kills)
                # Whatever is still queued goes out under a lease that is kept alive.
                await self._flush(reporter, ending)
                for watcher in watchers:
                    watcher.cancel()
        finally:
            await process.kill()
        if isinstance(ending, HandedBack):
            raise Released
        return ending

    async def _flush(self, reporter: Reporter, ending: Ending | HandedBack) -> None:
        if not isinstance(ending, HandedBack):
            await reporter.flush()
            return
        try:
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await reporter.flush()
        except TimeoutError:
            # Rows that the registry has not confirmed are in the checkpoint.
            _log.warning("the registry is away, handing back without the last rows")

    async def _follow(self, process: TrainingProcess, reporter: Reporter, kills: int) -> Ending | HandedBack:
        """Relay messages until the process has ended; what it said last, or how it ended, is the ending."""
        last: Completed | Failed | HandedBack | None = None
        async for message in process.messages():
            match message:
                case ProgressMade():
                    self._progress = message
                case MetricsMeasured():
                    reporter.metrics(message)
                case Logged():
                    reporter.log(message.level, message.text, message.time)
                case CheckpointWritten():
                    reporter.checkpoint(message)
                case Completed() | Failed() | HandedBack():
                    last = message
                case _:
                    assert_never(message)
        return self._ending(last, process, reporter, kills)

    def _ending(
        self, last: Completed | Failed | HandedBack | None, process: TrainingProcess, reporter: Reporter, kills: int
    ) -> Ending | HandedBack:
        step = last.step if isinstance(last, HandedBack) else self._progress.done
        if isinstance(last, Completed):
            return Ending("SUCCEEDED", step=last.step, model=last.model, lineage=last.lineage)
        if self._cancelled is not None:
            return Ending("CANCELLED", self._cancelled.reason, f"stopped at step {step}", step)
        if isinstance(last, HandedBack):
            return last
        if isinstance(last, Failed):
            reporter.log("error", last.text)
            return Ending("FAILED", last.reason, last.text, step, retryable=last.retryable)
        if self._handing_back:
            return HandedBack(step)
        text = process.exit_text
        reporter.log("error", text)
        if process.killed and out_of_memory_kills() > kills:
            return Ending("FAILED", "OUT_OF_MEMORY", f"the kernel ran out of memory; {ADVICE}: {text}", step)
        return Ending("FAILED", "INTERNAL", text, step, retryable=True)

    async def _keep_lease(self) -> None:
        """Beat, and hear whether the run is to end. A registry that is away does not disturb the training."""
        away = False
        while True:
            try:
                asked = await self._registry.heartbeat(self._claimed.lease, self._progress)
            except Transient as error:
                if not away:
                    _log.warning("the registry is away, training goes on", error=str(error))
                away = True
            else:
                away = False
                self._obey(asked)
            await asyncio.sleep(self._supervision.heartbeat_seconds)

    async def _listen(self) -> None:
        """Hear of a cancellation at once. Where that cannot be had, the next heartbeat tells."""
        while not self._cancelling.is_set():
            try:
                self._obey(await self._registry.cancellation(self._claimed.lease))
            except TunixError:
                await asyncio.sleep(self._supervision.heartbeat_seconds)

    def _obey(self, asked: CancelAsked | None) -> None:
        if asked is not None and self._cancelled is None:
            _log.info("cancelling", reason=asked.reason)
            self._cancelled = asked
            self._cancelling.set()

    async def _end_on_cancellation(self, process: TrainingProcess) -> None:
        await self._cancelling.wait()
        assert self._cancelled is not None
        if self._cancelled.keeps_checkpoint:
            await self._checkpoint_and_end(process)
        else:
            await process.end(self._supervision.cancel_seconds)

    async def _hand_back_on(self, stop: asyncio.Event, process: TrainingProcess) -> None:
        await stop.wait()
        self._handing_back = True
        await self._checkpoint_and_end(process)

    async def _checkpoint_and_end(self, process: TrainingProcess) -> None:
        """Ask for a checkpoint after the step under way; kill the process when it takes too long."""
        process.tell(HandBack())
        await asyncio.sleep(self._supervision.hand_back_seconds)
        _log.warning("no checkpoint in time, the last one stands")
        await process.kill()

    def _job(self) -> Job:
        claimed, supervision = self._claimed, self._supervision
        return Job(
            run_id=claimed.lease.job_id,
            attempt=claimed.lease.epoch,
            spec_digest=claimed.spec_digest,
            base_model=claimed.base_model,
            dataset_id=claimed.dataset_id,
            dataset=claimed.dataset,
            hyperparameters=claimed.hyperparameters,
            artifacts_uri=supervision.artifacts_uri,
            work_dir=str(self._directory),
            cache_dir=str(supervision.cache_dir),
            base_model_artifact=claimed.base_model_artifact,
            recorded_steps=claimed.recorded_steps,
            initial_checkpoint=claimed.initial_checkpoint,
            compilation_cache=str(supervision.cache_dir / "xla") if supervision.compilation_cache else "",
            member=supervision.member,
        )
