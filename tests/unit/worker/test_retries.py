"""Retries: what is repeated, for how long, and what is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tunix_rt.errors import Aborted, Exhausted, Transient, TunixError
from tunix_rt.worker.retries import RetriesExhausted, RetryPolicy


class Clock:
    """Time that passes only while one sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr("tunix_rt.worker.retries.time", clock)
    monkeypatch.setattr("tunix_rt.worker.retries.asyncio", clock)
    monkeypatch.setattr("random.uniform", lambda low, high: 1.0)
    yield clock


class Peer:
    """Fails with ``errors`` in turn, then answers."""

    def __init__(self, *errors: TunixError) -> None:
        self.errors = list(errors)

    async def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def test_pauses_double_up_to_three_seconds_and_start_over_with_the_next_call(clock: Clock) -> None:
    policy = RetryPolicy("the peer")
    assert await policy.call(Peer(*[Transient("away")] * 6)) == "answer"
    assert clock.pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.0, 3.0])
    clock.pauses.clear()
    await policy.call(Peer(Transient("away")))
    assert clock.pauses == [0.2]


async def test_a_full_peer_says_how_long_to_wait(clock: Clock) -> None:
    await RetryPolicy("the peer").call(Peer(Exhausted("full", 5.0), Exhausted("full", 0.1)))
    assert clock.pauses == [5.0, 0.4]


async def test_who_holds_a_lease_comes_back_before_it_ends(clock: Clock) -> None:
    await RetryPolicy("the peer", longest_seconds=2.0).call(Peer(Exhausted("full", 60.0), Exhausted("full", 0.1)))
    assert clock.pauses == [2.0, 0.4]


async def test_a_silent_peer_is_given_up_and_any_answer_restarts_the_clock(clock: Clock) -> None:
    policy = RetryPolicy("the peer", 4.0)
    # Away for 3 s (0.2 + 0.4 + 0.8 + 1.6), full, and away for 3 s again: never silent for 4 s.
    away = [Transient("away")] * 4
    assert await policy.call(Peer(*away, Exhausted("full", 0.0), Transient("away"))) == "answer"
    assert not policy.waiting
    with pytest.raises(RetriesExhausted, match=r"the peer has not answered for [4-7] s: away"):
        await policy.call(Peer(*[Transient("away")] * 99))
    assert policy.waiting


async def test_what_a_retry_does_not_cure_is_raised_at_once(clock: Clock) -> None:
    with pytest.raises(Aborted):
        await RetryPolicy("the peer").call(Peer(Aborted("epoch 1 is over")))
    assert clock.pauses == []
