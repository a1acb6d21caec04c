"""One attempt at a run: starts the training process, relays its messages, reacts to cancellation, says how it ended."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from tunix_rt.errors import Aborted, TunixError
from tunix_rt.observability.logs import get_logger
from tunix_rt.trainer.job import Job, Member
from tunix_rt.trainer.job_messages import job_of, run_result
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
    Resumed,
)
from tunix_rt.trainer.process import TrainingProcess
from tunix_rt.trainer.reporting import Reporter, RunReports
from tunix_rt.v1.jobs_pb2 import RunPayload
from tunix_rt.worker.claim import Claim
from tunix_rt.worker.jobs import Ending, Progress, Released

# A worker that stops does not wait indefinitely for an unavailable registry.
_FINAL_FLUSH_TIMEOUT_SECONDS = 5.0
# A run that a scheduler has stopped: other trials may continue from its checkpoint.
_KEEPS_CHECKPOINT = "EARLY_STOPPED"
_log = get_logger(__name__)


@dataclass(frozen=True)
class Supervision:
    """How closely an attempt is watched (seconds), and where it works. ``code_revision`` goes into every lineage."""

    work_dir: Path
    cache_dir: Path
    artifacts_uri: str
    code_revision: str = ""
    watch_retry_seconds: float = 2.0
    report_seconds: float = 1.0
    hand_back_seconds: float = 20.0
    cancel_seconds: float = 1.0
    compilation_cache: bool = True
    simulated_devices: int = 0
    member: Member | None = None


class Attempt:
    """Carries out a claimed run once."""

    def __init__(self, claim: Claim[RunPayload], reports: RunReports, supervision: Supervision) -> None:
        self._claim, self._reports, self._supervision = claim, reports, supervision
        self._directory = supervision.work_dir / claim.lease.attempt_id
        self._job = self._job_in(self._directory)
        self._progress = ProgressMade("starting", 0, self._job.hyperparameters.max_steps or 0)
        claim.progress = lambda: Progress(self._progress.done, self._progress.total, "steps", self._progress.stage)
        self._cancel_reason = ""
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
        self._job.write(job_file)
        kills = out_of_memory_kills()
        process = await TrainingProcess.start(job_file, simulated_devices=self._supervision.simulated_devices)
        _log.info("training process started", pid=process.pid)
        reporter = Reporter(self._reports, self._claim.lease, lambda step: process.send(Acknowledged(step)))
        try:
            async with asyncio.TaskGroup() as group:
                watchers = [
                    group.create_task(self._await_cancellation()),
                    group.create_task(self._watch_cancellation()),
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
            raise Released("the worker stops")
        return ending

    async def _flush(self, reporter: Reporter, ending: Ending | HandedBack) -> None:
        if not isinstance(ending, HandedBack):
            await reporter.flush()
            return
        try:
            async with asyncio.timeout(_FINAL_FLUSH_TIMEOUT_SECONDS):
                await reporter.flush()
        except TimeoutError:
            # Rows that the registry has not confirmed are in the checkpoint.
            _log.warning("the registry is unavailable; releasing the run without the last rows")

    async def _follow(self, process: TrainingProcess, reporter: Reporter, kills: int) -> Ending | HandedBack:
        """Relay messages until the process has ended; what it said last, or how it ended, is the ending."""
        last: Completed | Failed | HandedBack | None = None
        async for message in process.messages():
            match message:
                case ProgressMade():
                    self._progress = message
                case Resumed():
                    self._claim.resumed(message.step)
                case MetricsMeasured():
                    reporter.metrics(message)
                case Logged():
                    reporter.log(message.level, message.text, message.time)
                case CheckpointWritten():
                    reporter.checkpoint(message)
                case Completed() | HandedBack():
                    last = message
                    # Steps made since the process last said how far it is.
                    self._progress = dataclasses.replace(self._progress, done=message.step)
                case Failed():
                    last = message
                case _:
                    assert_never(message)
        return self._ending(last, process, reporter, kills)

    def _ending(
        self, last: Completed | Failed | HandedBack | None, process: TrainingProcess, reporter: Reporter, kills: int
    ) -> Ending | HandedBack:
        step = self._progress.done
        if isinstance(last, Completed):
            lineage = {**last.lineage, "code_revision": self._supervision.code_revision}
            return Ending("SUCCEEDED", result=run_result(last.step, last.model, lineage))
        if self._cancelling.is_set():
            return Ending("CANCELLED", self._cancel_reason, f"stopped at step {step}")
        if isinstance(last, HandedBack):
            return last
        if isinstance(last, Failed):
            reporter.log("error", last.text)
            return Ending("FAILED", last.reason, last.text, retryable=last.retryable)
        if self._handing_back:
            return HandedBack(step)
        text = process.exit_text
        reporter.log("error", text)
        if process.killed and out_of_memory_kills() > kills:
            return Ending("FAILED", "OUT_OF_MEMORY", f"the kernel ran out of memory; {ADVICE}: {text}")
        return Ending("FAILED", "INTERNAL", text, retryable=True)

    async def _await_cancellation(self) -> None:
        self._cancel(await self._claim.cancellation())

    async def _watch_cancellation(self) -> None:
        """Hear of a cancellation at once; where the stream fails, a heartbeat brings it."""
        while not self._cancelling.is_set():
            try:
                self._cancel(await self._reports.cancellation(self._claim.lease.job_id))
            except TunixError:
                await asyncio.sleep(self._supervision.watch_retry_seconds)

    def _cancel(self, reason: str) -> None:
        if not self._cancelling.is_set():
            _log.info("cancelling", reason=reason)
            self._cancel_reason = reason
            self._cancelling.set()

    async def _end_on_cancellation(self, process: TrainingProcess) -> None:
        await self._cancelling.wait()
        if self._cancel_reason == _KEEPS_CHECKPOINT:
            await self._checkpoint_and_end(process)
        else:
            await process.end(self._supervision.cancel_seconds)

    async def _hand_back_on(self, stop: asyncio.Event, process: TrainingProcess) -> None:
        await stop.wait()
        self._handing_back = True
        await self._checkpoint_and_end(process)

    async def _checkpoint_and_end(self, process: TrainingProcess) -> None:
        """Request a checkpoint after the current step; kill the process on timeout."""
        process.send(HandBack())
        await asyncio.sleep(self._supervision.hand_back_seconds)
        _log.warning("no checkpoint in time; the latest one remains")
        await process.kill()

    def _job_in(self, directory: Path) -> Job:
        supervision = self._supervision
        return job_of(
            self._claim.lease,
            self._claim.payload,
            artifacts_uri=supervision.artifacts_uri,
            work_dir=str(directory),
            cache_dir=str(supervision.cache_dir),
            compilation_cache=str(supervision.cache_dir / "xla") if supervision.compilation_cache else "",
            member=supervision.member,
        )
