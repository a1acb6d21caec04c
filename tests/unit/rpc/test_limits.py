from __future__ import annotations

import pytest

from tunix_rt.errors import Exhausted, Unauthenticated
from tunix_rt.rpc.auth import Principal
from tunix_rt.rpc.limits import FAILURE_BURST, CallLimits, Limits, LogIns, TokenBuckets, authenticated


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_fills_again_with_time_and_never_over_its_size() -> None:
    clock = Clock()
    buckets = TokenBuckets(2, 0.5, clock)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 2.0]
    assert buckets.take("b") == 0
    clock.now = 2.0
    assert [buckets.take("a"), buckets.take("a")] == [0, 2.0]
    clock.now = 1e9
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 2.0]


def test_calls_and_streams_of_a_principal_are_counted_apart_and_from_those_of_others() -> None:
    limits = CallLimits(Limits(calls=1, streams=1, calls_per_second=1000))
    with limits.call("ann", stream=False), limits.call("ann", stream=True), limits.call("bob", stream=False):
        for stream in (False, True):
            with pytest.raises(Exhausted, match="of 'ann' are open"), limits.call("ann", stream=stream):
                pass
    with limits.call("ann", stream=False):
        pass


def test_a_principal_that_calls_too_often_is_told_when_to_come_again() -> None:
    clock = Clock()
    limits = CallLimits(Limits(calls=10, streams=10, calls_per_second=2), clock)
    for _ in range(2):
        with limits.call("ann", stream=False):
            pass
    with pytest.raises(Exhausted) as caught, limits.call("ann", stream=False):
        pass
    assert caught.value.retry_after_seconds == 0.5


class OneToken:
    """Knows one token; counts how often it was asked."""

    asked = 0

    def authenticate(self, token: str | None) -> Principal:
        self.asked += 1
        if token != "good":
            raise Unauthenticated("unknown")
        return Principal("ann", frozenset())


async def test_unknown_tokens_of_one_peer_are_soon_not_looked_up_and_known_ones_go_on() -> None:
    clock, authorizer = Clock(), OneToken()
    log_ins = LogIns(clock)
    await authenticated(authorizer, log_ins, "good", "10.0.0.1")
    for number in range(FAILURE_BURST):
        with pytest.raises(Unauthenticated):
            await authenticated(authorizer, log_ins, f"bad-{number}", "10.0.0.1")
    asked = authorizer.asked
    for number in range(1000):
        with pytest.raises(Exhausted):
            await authenticated(authorizer, log_ins, f"worse-{number}", "10.0.0.1")
    assert authorizer.asked == asked
    assert (await authenticated(authorizer, log_ins, "good", "10.0.0.1")).name == "ann"
    with pytest.raises(Unauthenticated):
        await authenticated(authorizer, log_ins, "bad", "10.0.0.2")
    clock.now = 60.0
    with pytest.raises(Unauthenticated):
        await authenticated(authorizer, log_ins, "bad", "10.0.0.1")
