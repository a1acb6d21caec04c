"""Retry budget and backoff, on a clock that the test turns."""

from __future__ import annotations

import grpc
import pytest

from tunix_rt.client.retries import RetryBudget
from tunix_rt.errors import Exhausted, NotFound, Transient


class FailedCall(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """What a failed blocking call raises."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "gone"

    def initial_metadata(self) -> tuple[()]:
        return ()

    def trailing_metadata(self) -> tuple[()]:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> None:
        return None

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: object) -> bool:
        return False


UNAVAILABLE = FailedCall(grpc.StatusCode.UNAVAILABLE)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_delays_grow_to_two_seconds_and_the_limit_ends_them() -> None:
    clock = Clock()
    budget = RetryBudget("the registry", 30.0, clock=clock)
    delays = []
    with pytest.raises(Transient, match="the registry cannot be reached"):
        while True:
            delays.append(budget.delay_after(UNAVAILABLE))
            clock.now += delays[-1]
    assert all(0.05 * 2**i <= delays[i] <= 0.1 * 2**i for i in range(4))
    assert max(delays) <= 2.0
    assert sum(delays) == pytest.approx(30.0)


def test_an_answer_ends_an_outage() -> None:
    clock = Clock()
    budget = RetryBudget("the registry", 5.0, clock=clock)
    budget.delay_after(UNAVAILABLE)
    clock.now += 4.9
    budget.answered()
    clock.now += 4.9
    assert budget.delay_after(UNAVAILABLE) <= 0.1


def test_a_full_service_is_asked_again_when_it_says_so() -> None:
    clock = Clock()
    budget = RetryBudget("the registry", 30.0, clock=clock)
    full = FailedCall(grpc.StatusCode.RESOURCE_EXHAUSTED)  # without a delay of its own: a second
    delays = []
    with pytest.raises(Exhausted):
        while True:
            delays.append(budget.delay_after(full))
            clock.now += delays[-1]
    assert all(1.0 <= delay <= 3.0 for delay in delays)
    assert 25.0 <= sum(delays) <= 30.0
    budget.answered()
    assert budget.delay_after(full) <= 1.5
    with pytest.raises(Exhausted):
        RetryBudget("the registry", 0.0).delay_after(full)


def test_other_errors_are_raised_at_once() -> None:
    with pytest.raises(NotFound):
        RetryBudget("the registry", 30.0).delay_after(FailedCall(grpc.StatusCode.NOT_FOUND))
    with pytest.raises(Transient, match="DEADLINE_EXCEEDED"):
        RetryBudget("the registry", 30.0).delay_after(FailedCall(grpc.StatusCode.DEADLINE_EXCEEDED))


def test_a_stream_is_reopened_at_once_when_its_leg_is_over() -> None:
    budget = RetryBudget("the registry", 0.0)
    assert budget.delay_after(FailedCall(grpc.StatusCode.DEADLINE_EXCEEDED), reopen=True) == 0.0


def test_calls_get_no_more_time_than_is_left() -> None:
    clock = Clock()
    budget = RetryBudget("the registry", 30.0, deadline=110.0, clock=clock)
    assert budget.call_seconds(300.0) == 10.0
    clock.now = 110.0
    with pytest.raises(Transient, match="timed out waiting for the registry"):
        budget.call_seconds(300.0)
