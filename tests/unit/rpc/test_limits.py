from __future__ import annotations

import asyncio

import pytest

from tunix_rt.errors import Exhausted, PermissionDenied, Transient, Unauthenticated
from tunix_rt.rpc.auth import Principal
from tunix_rt.rpc.limits import (
    FAILURE_BURST,
    CallLimits,
    Limits,
    LogIns,
    Places,
    Strangers,
    TokenBuckets,
    authenticated,
)


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


class SlowToken:
    """Answers when it is let go."""

    def __init__(self) -> None:
        self.asked, self.let_go = 0, asyncio.Event()

    async def authenticate(self, token: str | None) -> Principal:
        self.asked += 1
        await self.let_go.wait()
        if token != "good":
            raise Unauthenticated("unknown")
        return Principal("ann", frozenset())


async def test_guesses_at_once_are_no_more_than_guesses_one_by_one() -> None:
    authorizer, log_ins = SlowToken(), LogIns(Clock())
    guesses = [asyncio.ensure_future(authenticated(authorizer, log_ins, f"bad-{n}", "10.0.0.1")) for n in range(500)]
    await asyncio.sleep(0)
    authorizer.let_go.set()
    found = await asyncio.gather(*guesses, return_exceptions=True)
    assert authorizer.asked == FAILURE_BURST
    assert sum(isinstance(each, Exhausted) for each in found) == 500 - FAILURE_BURST


async def test_calls_at_once_with_one_new_token_are_one_guess_and_a_good_one_costs_nothing() -> None:
    clock, authorizer = Clock(), SlowToken()
    log_ins = LogIns(clock)
    for token, found_type in (("good", Principal), ("bad", Unauthenticated)):
        authorizer.let_go.clear()
        calls = [asyncio.ensure_future(authenticated(authorizer, log_ins, token, "10.0.0.1")) for _ in range(500)]
        await asyncio.sleep(0)
        authorizer.let_go.set()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in found} == {found_type}
    # 500 failures owe a burst, and one more is room again: 51 at two a second.
    clock.now = 25.0
    with pytest.raises(Exhausted):
        await authenticated(authorizer, log_ins, "other", "10.0.0.1")
    clock.now = 25.5
    with pytest.raises(Unauthenticated):
        await authenticated(authorizer, log_ins, "other", "10.0.0.1")


class Away:
    async def authenticate(self, token: str | None) -> Principal:
        raise Transient("the registry is away")


async def test_who_cannot_be_looked_up_has_not_guessed() -> None:
    log_ins = LogIns(Clock())
    for _ in range(3 * FAILURE_BURST):
        with pytest.raises(Transient):
            await authenticated(Away(), log_ins, "any", "10.0.0.1")


def test_who_calls_a_worker_s_method_in_vain_is_a_stranger_until_it_may() -> None:
    strangers = Strangers()
    for refusal in (Unauthenticated("unknown"), PermissionDenied("a viewer")):
        with pytest.raises(type(refusal)), strangers.noted("a"):
            raise refusal
        assert strangers.know("a")
        assert not strangers.know("b")
        with strangers.noted("a"):
            pass
        assert not strangers.know("a")
    with pytest.raises(Exhausted), strangers.noted("a"):
        raise Exhausted("full")
    assert not strangers.know("a")


def test_places_are_given_back() -> None:
    places = Places(1)
    for _ in range(2):
        with places.place(), pytest.raises(Exhausted), places.place():
            pass
