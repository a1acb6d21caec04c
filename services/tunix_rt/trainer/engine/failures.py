"""Exceptions that end training early, and the contract's reason for each."""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.errors import InvalidArtifact, InvalidInput, NotFound, Transient, TunixError
from tunix_rt.trainer.memory import ADVICE


class Diverged(TunixError):
    """Loss, gradients or state are not finite, or the loss has exploded."""


class HandedBackAt(Exception):
    """Not a failure: training stopped after ``step``, with a checkpoint, because the worker was asked to."""

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"handed back at step {step}")


@dataclass(frozen=True)
class Cause:
    """``reason`` is a name of the contract's Reason; ``retryable``: another attempt may succeed."""

    reason: str
    text: str
    retryable: bool


def cause_of(error: BaseException) -> Cause:
    """The cause of a failed attempt, with an actionable message."""
    text = str(error) or type(error).__name__
    if isinstance(error, InvalidInput | NotFound):
        return Cause("INVALID_SPEC", text, retryable=False)
    if isinstance(error, InvalidArtifact):
        return Cause("INVALID_ARTIFACT", text, retryable=False)
    if isinstance(error, Diverged):
        return Cause("DIVERGED", text, retryable=False)
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return Cause("OUT_OF_MEMORY", f"{text.splitlines()[0]} ({ADVICE})", retryable=False)
    if isinstance(error, Transient):
        return Cause("INTERNAL", text, retryable=True)
    return Cause("INTERNAL", f"{type(error).__name__}: {text}", retryable=True)


def _is_out_of_memory(error: BaseException) -> bool:
    # jaxlib raises one class for every runtime error; its text begins with the status code.
    return type(error).__name__ in ("XlaRuntimeError", "JaxRuntimeError") and "RESOURCE_EXHAUSTED" in str(error)
