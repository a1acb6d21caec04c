"""Equality of mathematical expressions by `math-verify`, in a child process that can be killed.

Not pure. It is imported only when neither text nor exact numbers decide an item of type ``math``.
"""

from __future__ import annotations

import atexit
from functools import lru_cache
from typing import Final

from tunix_rt.errors import Transient
from tunix_rt.untrusted.process import ChildFailed, ChildProcess, ChildUnavailable, Limits

_START_SECONDS: Final = 180.0
_MEMORY_BYTES: Final = 4 << 30
_MAX_CHARS: Final = 2_000


class MathVerifier:
    """One worker process, started on first use and restarted after it was killed. Thread-safe."""

    def __init__(self, timeout_seconds: float = 30.0) -> None:
        self._limits = Limits(cpu_seconds=timeout_seconds, wall_seconds=timeout_seconds, answer_bytes=1 << 16)
        self._worker = ChildProcess(
            "tunix_rt.quality.math_worker", memory_bytes=_MEMORY_BYTES, start_seconds=_START_SECONDS
        )

    def equal(self, expected: str, answer: str) -> bool:
        """Whether the two expressions are equal; False when ``answer`` cannot be parsed in time.

        Raises `Transient` when the worker cannot run (``tunix-rt[evaluator]`` is not installed).
        """
        if len(answer) > _MAX_CHARS:
            return False
        try:
            reply = self._worker.ask("equal", self._limits, expected=expected, answer=answer)
        except ChildFailed:
            # Time-out or crash (out of memory, stack overflow): the answer counts as not parsed.
            return False
        except ChildUnavailable as error:
            raise Transient(f"math-verify cannot run ({error}); install tunix-rt[evaluator]") from error
        return isinstance(reply, dict) and bool(reply.get("equal"))

    def close(self) -> None:
        """Kill the worker if it is running."""
        self._worker.close()


@lru_cache(maxsize=1)
def shared_verifier() -> MathVerifier:
    """The verifier shared within this process; its worker is killed at exit."""
    verifier = MathVerifier()
    atexit.register(verifier.close)
    return verifier
