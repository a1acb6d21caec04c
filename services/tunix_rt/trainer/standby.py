"""A follower's service: keeps a training process ready for the leader's next attempt.

Claims nothing and reports nothing: the leader's service does that for all.
"""

from __future__ import annotations

import asyncio
import contextlib

from tunix_rt.observability.logs import get_logger
from tunix_rt.trainer.job import Member, Standby
from tunix_rt.trainer.messages import Failed
from tunix_rt.trainer.process import TrainingProcess
from tunix_rt.trainer.settings import TrainerSettings

_AGAIN_SECONDS = 1.0
_log = get_logger(__name__)


async def stand_by(settings: TrainerSettings, member: Member, stop: asyncio.Event) -> None:
    """Start training processes one after the other until ``stop`` is set; then end the one under way.

    A process waits for its leader's, trains with it and ends with it, however that ends. When a follower stops in the
    middle of an attempt, the others notice and the attempt fails, to be tried again.
    """
    settings.work_dir.mkdir(parents=True, exist_ok=True)
    order_file = settings.work_dir / "standby.json"
    cache = str(settings.cache_root / "xla") if settings.compilation_cache else ""
    Standby(member, str(settings.work_dir), str(settings.cache_root), cache).write(order_file)
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            process = await TrainingProcess.start(order_file, simulated_devices=settings.simulated_devices)
            following = asyncio.create_task(_follow(process))
            try:
                await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await process.kill()
                await following
            _log.info("the training process has ended", how=process.exit_text)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_SECONDS):
                    await stop.wait()
    finally:
        stopping.cancel()


async def _follow(process: TrainingProcess) -> None:
    async for message in process.messages():
        if isinstance(message, Failed):
            _log.warning("training failed", reason=message.reason, text=message.text)
