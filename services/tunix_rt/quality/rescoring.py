"""Predictions scored again, by a few worker processes with limits on time and memory.

Not pure. Only the built-in scorers: code of others is not run here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from queue import SimpleQueue
from typing import Any, Final

from tunix_rt.errors import Transient
from tunix_rt.quality.math_equality import MathVerifier, shared_verifier
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.untrusted.process import ChildFailed, ChildProcess, ChildUnavailable, Limits

# Samples of one request to a worker: requests of several callers take turns.
_CHUNK: Final = 32
_LIMITS: Final = Limits(cpu_seconds=30.0, wall_seconds=60.0)
_MEMORY_BYTES: Final = 512 << 20
_VERDICTS_KEPT: Final = 10_000


@dataclass(frozen=True)
class Sample:
    """A prediction for the item that ``document`` is (a line of an evalset). ``finish_reason``: "stop", "length" or
    "" if unknown."""

    document: Mapping[str, Any]
    prediction: str
    finish_reason: str = ""


@dataclass(frozen=True)
class Score:
    """What the built-in scorers give, ``outcome`` being the value of an `Outcome` and ``message`` as of `ItemScore`.

    ``problem`` says why it cannot be scored: it exceeds the limits. ``unavailable``: not on this machine, because
    math-verify is not installed, or not by this release, which does not take the item.
    """

    outcome: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    extracted_answer: str = ""
    message: str = ""
    problem: str = ""
    unavailable: bool = False


class Rescorer:
    """Scores with at most ``processes`` worker processes, which start when they are needed. `close` it."""

    def __init__(self, processes: int = 2, limits: Limits = _LIMITS) -> None:
        """``limits`` of a request of up to 32 samples, and of each alone where they exceed it together."""
        self._limits = limits
        self._threads = ThreadPoolExecutor(max_workers=processes, thread_name_prefix="rescoring")
        self._workers: SimpleQueue[ChildProcess] = SimpleQueue()
        for _ in range(processes):
            self._workers.put(ChildProcess("tunix_rt.quality.scoring_worker", memory_bytes=_MEMORY_BYTES))
        # A caller that gave up waiting asks again, and then the slow verdicts are there.
        self._equal = lru_cache(maxsize=_VERDICTS_KEPT)(_equal)

    async def score(self, samples: Sequence[Sample]) -> list[Score]:
        """The score of each sample. Raises `Transient` when no worker process can be started."""
        loop = asyncio.get_running_loop()
        scores: list[Score] = []
        for start in range(0, len(samples), _CHUNK):
            chunk = samples[start : start + _CHUNK]
            scores += await loop.run_in_executor(self._threads, self._score_chunk, chunk)
        return scores

    def close(self) -> None:
        """End the worker processes; requests that run fail."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while not self._workers.empty():
            self._workers.get().close()

    def _score_chunk(self, samples: Sequence[Sample]) -> list[Score]:
        worker = self._workers.get()
        try:
            return list(self._scored(worker, samples))
        except ChildUnavailable as error:
            raise Transient(f"predictions cannot be scored now: {error}") from error
        finally:
            self._workers.put(worker)

    def _scored(self, worker: ChildProcess, samples: Sequence[Sample]) -> Iterator[Score]:
        try:
            yield from self._ask(worker, samples)
        except ChildFailed as error:
            if len(samples) == 1:
                yield Score(problem=str(error))
                return
            # One of them is to blame, not its neighbours.
            for sample in samples:
                yield from self._scored(worker, [sample])

    def _ask(self, worker: ChildProcess, samples: Sequence[Sample]) -> list[Score]:
        """Ask until every pair of expressions that a score needs is decided, here."""
        found: dict[int, Score] = {}
        verdicts: list[tuple[str, str, bool]] = []
        while left := [index for index in range(len(samples)) if index not in found]:
            given = [_given(samples[index]) for index in left]
            answers = worker.ask("score", self._limits, samples=given, verdicts=verdicts)
            for index, answer in zip(left, answers, strict=True):
                if (pair := answer.get("undecided")) is None:
                    found[index] = Score(**answer)
                    continue
                try:
                    verdicts.append((*pair, self._equal(*pair)))
                except Transient as error:
                    found[index] = _undecided(error)
        return [found[index] for index in range(len(samples))]


def _undecided(error: Transient) -> Score:
    """What could not be decided is neither right nor wrong."""
    if isinstance(error.__cause__, ChildUnavailable):
        return Score(unavailable=True)
    return Score(outcome=Outcome.ERRORED.value, message=str(error))


def _given(sample: Sample) -> tuple[dict[str, Any], str, str]:
    return dict(sample.document), sample.prediction, sample.finish_reason


def _equal(expected: str, answer: str) -> bool:
    verifier: MathVerifier = shared_verifier()
    return verifier.equal(expected, answer)
