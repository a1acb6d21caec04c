"""Measurements of the scheduler, as a protocol. `metrics` exports them to Prometheus."""

from __future__ import annotations

from typing import Protocol

from tunix_rt.inferencer.generation import FinishReason


class Observer(Protocol):
    """Called on the engine's thread; must not block. Times are in seconds."""

    def occupancy(self, busy: int, slots: int, waiting: int) -> None: ...

    def started(self, queued: float) -> None: ...

    def prefilled(self, prompt_tokens: int, reused: int) -> None: ...

    def first_token(self, since_accepted: float) -> None: ...

    def inter_token(self, seconds: float, count: int) -> None:
        """``count`` tokens of one request, ``seconds`` per token since the previous ones."""
        ...

    def tokens(self, count: int) -> None: ...

    def finished(self, reason: FinishReason, since_accepted: float) -> None: ...


class _Ignore:
    def occupancy(self, busy: int, slots: int, waiting: int) -> None:
        pass

    def started(self, queued: float) -> None:
        pass

    def prefilled(self, prompt_tokens: int, reused: int) -> None:
        pass

    def first_token(self, since_accepted: float) -> None:
        pass

    def inter_token(self, seconds: float, count: int) -> None:
        pass

    def tokens(self, count: int) -> None:
        pass

    def finished(self, reason: FinishReason, since_accepted: float) -> None:
        pass


IGNORE: Observer = _Ignore()
