"""Limits that keep one caller from locking out the others: concurrent calls and streams, call rate, failed
authentication.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tunix_rt.errors import Exhausted, PermissionDenied, Unauthenticated
from tunix_rt.rpc.auth import Authorizer, CertificateAuthorizer, Principal, token_hash

_MAX_KEYS: Final = 10_000
# Streams at once of health and reflection, which need no token.
OPEN_STREAMS_PER_PEER: Final = 50
OPEN_STREAMS: Final = 1_000
# Failed authentication attempts of one peer: burst size, and sustained rate per second.
FAILURE_BURST: Final = 50
FAILURES_PER_SECOND: Final = 2.0
# How long a token that was accepted is looked up whatever else comes from its peer.
KNOWN_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Limits:
    """Of one principal at one process."""

    calls: int
    streams: int
    calls_per_second: float


class TokenBuckets:
    """A token bucket for each key: a burst of events, then a sustained rate per second."""

    def __init__(self, burst: float, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_second, self._clock = burst, per_second, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """Seconds until there is room for one more; 0: there is."""
        return max(0.0, (1 - self._left(key)) / self._per_second)

    def take(self, key: str) -> float:
        """As `wait`; where there is room, it is taken."""
        wait = self.wait(key)
        if not wait:
            self._put(key, self._left(key) - 1)
        return wait

    def charge(self, key: str) -> None:
        """Take one, be there room or not; what is owed is at most a burst."""
        self._put(key, max(-self._burst, self._left(key) - 1))

    def give(self, key: str) -> None:
        """Put one back."""
        self._put(key, min(self._burst, self._left(key) + 1))

    def _left(self, key: str) -> float:
        now = self._clock()
        left, then = self._buckets.get(key, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._per_second)
        self._put(key, left)
        return left

    def _put(self, key: str, left: float) -> None:
        self._buckets[key] = (left, self._clock())
        self._buckets.move_to_end(key)
        while len(self._buckets) > _MAX_KEYS:
            self._buckets.popitem(last=False)


class CallLimits:
    """Counts the calls of every principal. For one event loop."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._running: Counter[tuple[str, bool]] = Counter()
        self._rate = TokenBuckets(max(1.0, limits.calls_per_second), limits.calls_per_second, clock)

    @contextmanager
    def call(self, principal: str, *, stream: bool) -> Iterator[None]:
        """A call of ``principal``, as long as the block runs. Raises `Exhausted`."""
        wait = self._rate.take(principal)
        if wait:
            raise Exhausted(f"{principal!r} calls more than {self._limits.calls_per_second:g} times per second", wait)
        key, limit = (principal, stream), self._limits.streams if stream else self._limits.calls
        if self._running[key] >= limit:
            raise Exhausted(f"{limit} {'streams' if stream else 'calls'} of {principal!r} are open already")
        self._running[key] += 1
        try:
            yield
        finally:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]


class Places:
    """Counts streams that are open. For one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place, as long as the block runs. Raises `Exhausted`."""
        if self._taken >= self._limit:
            raise Exhausted(f"{self._limit} streams are open already; try again later", 5.0)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Strangers:
    """Knows credentials, by a hash, whose latest call of a worker's method was refused. For one event loop."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()

    def know(self, credential: str) -> bool:
        """Whether it is one of theirs."""
        return credential in self._known

    @contextmanager
    def noted(self, credential: str) -> Iterator[None]:
        """Whether a call with ``credential`` is authenticated and permitted inside the block is remembered."""
        try:
            yield
        except (Unauthenticated, PermissionDenied):
            self._known[credential] = None
            self._known.move_to_end(credential)
            if len(self._known) > _MAX_KEYS:
                self._known.popitem(last=False)
            raise
        self._known.pop(credential, None)


class OpenStreams:
    """Counts streams that need no token, by the address of their callers. For one event loop."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()

    @contextmanager
    def stream(self, peer: str) -> Iterator[None]:
        """A stream of ``peer``, as long as the block runs. Raises `Exhausted`."""
        if self._running[peer] >= OPEN_STREAMS_PER_PEER or self._running.total() >= OPEN_STREAMS:
            raise Exhausted(
                f"at most {OPEN_STREAMS_PER_PEER} streams without a token of one address, and {OPEN_STREAMS} of all, "
                "are open at once"
            )
        self._running[peer] += 1
        try:
            yield
        finally:
            self._running[peer] -= 1
            if not self._running[peer]:
                del self._running[peer]


class LogIns:
    """Refuses tokens from a peer that has tried too many unknown ones, without looking them up. Tokens that were good
    a short while ago pass, so that others behind the same address go on working. Keys are hashes of tokens. For one
    event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = TokenBuckets(FAILURE_BURST, FAILURES_PER_SECOND, clock)
        self._known: OrderedDict[str, float] = OrderedDict()
        self._asked: Counter[str] = Counter()

    @contextmanager
    def attempt(self, peer: str, key: str) -> Iterator[None]:
        """Looking up a token, as long as the block runs. Raises `Exhausted`.

        An unknown token counts as a failure until it is known to be good, so that guesses at once are no more than
        guesses one by one. Calls at once with one token are one guess.
        """
        known, counted = self._known.get(key), False
        if (known is None or self._clock() - known >= KNOWN_SECONDS) and not self._asked[key]:
            wait = self._failures.take(peer)
            if wait:
                del self._asked[key]
                raise Exhausted("too many unknown tokens were tried from this address", wait)
            counted = True
        self._asked[key] += 1
        failed = False
        try:
            yield
            self._succeeded(key)
        except Unauthenticated:
            failed = True
            self._known.pop(key, None)
            raise
        finally:
            self._asked[key] -= 1
            if not self._asked[key]:
                del self._asked[key]
            if counted and not failed:
                self._failures.give(peer)
            elif failed and not counted:
                self._failures.charge(peer)

    def _succeeded(self, key: str) -> None:
        self._known[key] = self._clock()
        self._known.move_to_end(key)
        while len(self._known) > _MAX_KEYS:
            self._known.popitem(last=False)


async def authenticated(
    authorizer: Authorizer, log_ins: LogIns, token: str | None, peer: str, certificate: str = ""
) -> Principal:
    """Who holds ``token``; of a call without one, who has the client certificate named ``certificate`` ("": nobody).

    Raises `Unauthenticated`, and `Exhausted` where ``peer`` has tried too many.
    """
    named = authorizer if token is None and certificate and isinstance(authorizer, CertificateAuthorizer) else None
    with log_ins.attempt(peer, token_hash(f"certificate {certificate}" if named else token or "")):
        answer = named.authenticate_certificate(certificate) if named else authorizer.authenticate(token)
        return answer if isinstance(answer, Principal) else await answer
