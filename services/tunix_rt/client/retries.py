"""Retry budget and backoff for services that are unavailable or full."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import grpc

from tunix_rt.errors import Exhausted, Transient, TunixError
from tunix_rt.rpc.errors import from_rpc_error

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 2.0
# A service that is full for now says that it is worth coming back within this; one that refuses by a quota, later.
SOON_SECONDS = 8.0

# A followed stream is also reopened when its leg's deadline has passed, or when the server cancelled it to stop.
_REOPEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class RetryBudget:
    """One operation's retries: call `delay_after` for each failure and `answered` for each response.

    ``limit_seconds`` bounds one outage, ``full_seconds`` how long a peer is waited for that is there, but full (None:
    as an outage); ``deadline`` (in ``clock``'s seconds) bounds the whole operation.
    """

    def __init__(
        self,
        peer: str,
        limit_seconds: float,
        deadline: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        full_seconds: float | None = None,
    ) -> None:
        self._peer = peer
        self._limit = limit_seconds
        self._full_limit = limit_seconds if full_seconds is None else max(limit_seconds, full_seconds)
        self._deadline = deadline
        self._clock = clock
        self._began: float | None = None
        self._delay = FIRST_DELAY_SECONDS

    def answered(self) -> None:
        """The peer answered: the outage, if there was one, is over."""
        self._began = None
        self._delay = FIRST_DELAY_SECONDS

    def call_seconds(self, wanted: float) -> float:
        """``wanted``, or what is left until the deadline. Raises `Transient` when nothing is."""
        if self._deadline is None:
            return wanted
        left = self._deadline - self._clock()
        if left <= 0:
            raise Transient(f"timed out waiting for {self._peer}")
        return min(wanted, left)

    def delay_after(self, error: grpc.RpcError, *, reopen: bool = False) -> float:
        """Seconds to wait before the next try; raises the error's `TunixError` where a retry would not help."""
        code = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None
        translated = from_rpc_error(error)
        if isinstance(translated, Exhausted):
            return self._delay_of_a_full_peer(translated, error)
        if code not in (_REOPEN if reopen else _REOPEN[:1]):
            raise translated from error
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:  # the leg's own deadline, no outage
            return 0.0
        return self._next_delay(translated, error)

    def delay_after_end(self) -> float:
        """Seconds to wait before reopening a stream that the server ended before its last item."""
        return self._next_delay(Transient(f"{self._peer} ended the stream early"), None)

    def _delay_of_a_full_peer(self, refusal: Exhausted, cause: BaseException) -> float:
        """It is there, and says when to come back; raises ``refusal`` where the budget does not last until then."""
        now = self._clock()
        self._began = now if self._began is None else self._began
        wait = max(refusal.retry_after_seconds, self._delay) * random.uniform(1.0, 1.5)
        limit = self._full_limit if refusal.retry_after_seconds <= SOON_SECONDS else self._limit
        if now - self._began + wait > limit:
            raise refusal from cause
        self._delay = min(self._delay * 2, LONGEST_DELAY_SECONDS)
        return wait

    def _next_delay(self, error: TunixError, cause: BaseException | None) -> float:
        now = self._clock()
        self._began = now if self._began is None else self._began
        if now - self._began >= self._limit:
            raise Transient(
                f"{self._peer} cannot be reached ({error}); is the platform up? See `tunix-rt status`"
            ) from cause
        # Full jitter: clients do not all reconnect at the same moment.
        delay = self._delay * (0.5 + random.random() / 2)
        self._delay = min(self._delay * 2, LONGEST_DELAY_SECONDS)
        return min(delay, max(0.0, self._limit - (now - self._began)))
