"""Evaluations that are being scored again: one at a time, each for all who asked for it, whoever of them leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

from sqlalchemy.orm import Session

from tunix_rt.observability.logs import get_logger
from tunix_rt.quality.rescoring import Sample, Score
from tunix_rt.registry.evaluations.rescore import Recorded, Rescoring, batch_after, changes, samples_of
from tunix_rt.v1 import evaluations_pb2 as pb

# How often a stream reports its progress.
PROGRESS_SECONDS: Final = 0.5
_log = get_logger(__name__)

Changes: TypeAlias = Sequence[Mapping[str, Any]]
Read: TypeAlias = Callable[[Callable[[Session], list[Recorded]]], Awaitable[list[Recorded]]]
Finish: TypeAlias = Callable[[Changes], Awaitable[pb.RescoreEvaluationResponse]]


@dataclass
class _Work:
    """How far one evaluation is; ``task`` has the last answer."""

    done: int = 0
    task: asyncio.Task[pb.RescoreEvaluationResponse] = field(init=False)


class Rescorings:
    """Scores with ``score``, which bounds time and memory. For one event loop."""

    def __init__(self, score: Callable[[Sequence[Sample]], Awaitable[Sequence[Score]]]) -> None:
        self._score = score
        self._running: dict[str, _Work] = {}
        self._turn = asyncio.Semaphore(1)

    async def follow(
        self, rescoring: Rescoring, read: Read, finish: Finish
    ) -> AsyncIterator[tuple[int, pb.RescoreEvaluationResponse | None]]:
        """How many samples are scored, again and again, and at last what ``finish`` made of the changes; of the first
        caller's ``finish``, where others ask for the same. Raises what either raises."""
        work = self._running.get(rescoring.evaluation_id)
        if work is None:
            work = self._running[rescoring.evaluation_id] = _Work()
            work.task = asyncio.create_task(self._carry_out(rescoring, work, read, finish))
            work.task.add_done_callback(lambda task: self._ended(rescoring.evaluation_id, task))
        while not (await asyncio.wait({work.task}, timeout=PROGRESS_SECONDS))[0]:
            yield work.done, None
        yield work.done, work.task.result()

    async def _carry_out(
        self, rescoring: Rescoring, work: _Work, read: Read, finish: Finish
    ) -> pb.RescoreEvaluationResponse:
        changed: list[Mapping[str, Any]] = []
        after: tuple[str, int] | None = None
        async with self._turn:
            while batch := await read(partial(batch_after, rescoring=rescoring, after=after)):
                changed += changes(batch, await self._score(samples_of(batch)))
                work.done += len(batch)
                after = batch[-1].key
            return await finish(changed)

    def _ended(self, evaluation_id: str, task: asyncio.Task[pb.RescoreEvaluationResponse]) -> None:
        del self._running[evaluation_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("an evaluation could not be scored again", evaluation=evaluation_id, error=str(error))
