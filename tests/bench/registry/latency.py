"""Times of calls, one after the other, and what is told of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Times:
    """Seconds of each call, in the order of the calls."""

    seconds: tuple[float, ...]

    @property
    def p50(self) -> float:
        return self.quantile(0.5)

    @property
    def p95(self) -> float:
        return self.quantile(0.95)

    def quantile(self, q: float) -> float:
        """The smallest time that at least the share ``q`` of the calls did not exceed."""
        ordered = sorted(self.seconds)
        return ordered[math.ceil(q * len(ordered)) - 1]

    def __add__(self, other: Times) -> Times:
        return Times(self.seconds + other.seconds)


def timed(call: Callable[[T], object], parameters: Iterable[T]) -> Times:
    """The time of ``call`` for each of ``parameters``."""
    seconds = []
    for each in parameters:
        started = time.perf_counter()
        call(each)
        seconds.append(time.perf_counter() - started)
    return Times(tuple(seconds))


def rate(call: Callable[[T], object], work: Sequence[Sequence[T]], each: int) -> float:
    """What ``call`` moves per second, ``each`` at a time, while every list of ``work`` is gone through by a thread.

    The first call of each list is not timed.
    """
    with ThreadPoolExecutor(len(work)) as threads:
        list(threads.map(lambda parameters: call(parameters[0]), work))
        started = time.perf_counter()
        done = sum(threads.map(lambda parameters: len([call(one) for one in parameters[1:]]), work))
        return done * each / (time.perf_counter() - started)
