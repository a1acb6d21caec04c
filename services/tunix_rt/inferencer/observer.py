"""What the scheduler and the model pool tell about themselves. `metrics` turns it into Prometheus series."""

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
        """``count`` tokens of one request came, so many seconds a token after those before them."""
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
