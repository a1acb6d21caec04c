"""Equality of formulas by `math-verify`, in child processes that can be killed.

Not pure. It is imported only when `mathematics` does not read a formula: sums, integrals, limits.
"""

from __future__ import annotations

import atexit
from functools import lru_cache
from queue import LifoQueue
from typing import Final

from tunix_rt.errors import Transient
from tunix_rt.untrusted.process import ChildFailed, ChildProcess, ChildUnavailable, Limits

_START_SECONDS: Final = 180.0
_MEMORY_BYTES: Final = 4 << 30
_MAX_CHARS: Final = 2_000
# The budget is counted in calls; time ends only what runs outside of Python.
_CPU_SECONDS, _WALL_SECONDS = 120.0, 900.0
_PROCESSES: Final = 2


class MathVerifier:
    """A few worker processes, started when they are needed and again after they were killed. Thread-safe."""

    def __init__(
        self, cpu_seconds: float = _CPU_SECONDS, max_calls: int | None = None, processes: int = _PROCESSES
    ) -> None:
        """``max_calls``: the budget of one verdict, in calls of functions; None: the worker's own, about 10 s."""
        self._limits = Limits(cpu_seconds=cpu_seconds, wall_seconds=_WALL_SECONDS, answer_bytes=1 << 16)
        self._budget = {} if max_calls is None else {"max_calls": max_calls}
        self._all = [
            ChildProcess("tunix_rt.quality.math_worker", memory_bytes=_MEMORY_BYTES, start_seconds=_START_SECONDS)
            for _ in range(processes)
        ]
        # The last one that worked comes first, so that no more start than are asked at a time.
        self._idle: LifoQueue[ChildProcess] = LifoQueue()
        for worker in reversed(self._all):
            self._idle.put(worker)

    def equal(self, expected: str, answer: str) -> bool:
        """Whether the two formulas are equal; False when math-verify does not read all of both.

        Raises `Transient` when there is no verdict: the budget is used up, or the worker cannot run
        (``tunix-rt[evaluator]`` is not installed).
        """
        if len(answer) > _MAX_CHARS:
            return False
        worker = self._idle.get()
        try:
            reply = worker.ask("equal", self._limits, expected=expected, answer=answer, **self._budget)
        except ChildFailed as error:
            raise Transient(f"math-verify did not decide on {answer[:80]!r}: {error}") from error
        except ChildUnavailable as error:
            raise Transient(f"math-verify cannot run ({error}); install tunix-rt[evaluator]") from error
        finally:
            self._idle.put(worker)
        if not isinstance(reply, dict) or "exhausted" in reply:
            raise Transient(f"math-verify did not decide on {answer[:80]!r}: it takes too many steps")
        return bool(reply.get("equal"))

    def close(self) -> None:
        """Kill the workers that are running."""
        for worker in self._all:
            worker.close()


@lru_cache(maxsize=1)
def shared_verifier() -> MathVerifier:
    """The verifier shared within this process; its workers are killed at exit."""
    verifier = MathVerifier()
    atexit.register(verifier.close)
    return verifier
