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


def rate(senders: Sequence[Callable[[], int]], seconds: float) -> float:
    """What the senders, each on a thread and again and again, say to have sent per second; once before, untimed."""
    for send in senders:
        send()

    def again(send: Callable[[], int]) -> int:
        sent = 0
        while time.perf_counter() < end:
            sent += send()
        return sent

    started = time.perf_counter()
    end = started + seconds
    with ThreadPoolExecutor(len(senders)) as threads:
        total = sum(threads.map(again, senders))
    return total / (time.perf_counter() - started)
