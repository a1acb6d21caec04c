"""Units of work of one lane do not wait for those of another."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tunix_rt.errors import Exhausted
from tunix_rt.registry.kernel.thread_lanes import ThreadLanes
from tunix_rt.registry.kernel.write_lock import WriteLock
from tunix_rt.rpc.lanes import Lane, new_turn, set_current_turn


@pytest.fixture
def lanes() -> Iterator[ThreadLanes]:
    opened = ThreadLanes({"calls": 2, "control": 1, "streams": 1, "inside": 1})
    yield opened
    opened.close()


@pytest.fixture
async def blocked(lanes: ThreadLanes) -> AsyncIterator[threading.Event]:
    """Every thread of ordinary calls waits for this."""
    go = threading.Event()
    tasks = [asyncio.create_task(in_lane(lanes, "calls", go.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    yield go
    go.set()
    await asyncio.gather(*tasks)


async def in_lane(lanes: ThreadLanes, lane: Lane, work: object) -> object:
    """A call of a lane; run it as a task of its own, for the lane is the task's."""
    set_current_turn(new_turn(lane))
    return await lanes.run(work)  # type: ignore[arg-type]


async def test_a_worker_s_call_does_not_wait_for_ordinary_ones(lanes: ThreadLanes, blocked: threading.Event) -> None:
    control = asyncio.create_task(in_lane(lanes, "control", lambda: "beat"))
    assert await asyncio.wait_for(control, 0.9) == "beat"
    assert await asyncio.wait_for(lanes.run(lambda: "reaped"), 0.9) == "reaped"


async def test_a_call_that_waits_for_a_second_is_refused_and_its_work_never_begins(
    lanes: ThreadLanes, blocked: threading.Event
) -> None:
    begun: list[str] = []
    begin = time.monotonic()
    with pytest.raises(Exhausted):
        await asyncio.create_task(in_lane(lanes, "calls", lambda: begun.append("late")))
    assert time.monotonic() - begin < 2
    blocked.set()
    await asyncio.create_task(in_lane(lanes, "calls", lambda: begun.append("next")))
    assert begun == ["next"]


async def test_a_call_whose_caller_is_gone_does_not_begin(lanes: ThreadLanes, blocked: threading.Event) -> None:
    begun: list[str] = []
    gone = asyncio.create_task(in_lane(lanes, "calls", lambda: begun.append("gone")))
    await asyncio.sleep(0)
    gone.cancel()
    blocked.set()
    await asyncio.create_task(in_lane(lanes, "calls", lambda: begun.append("next")))
    assert begun == ["next"]


async def test_a_call_that_has_begun_is_brought_to_its_end(lanes: ThreadLanes) -> None:
    go = threading.Event()

    async def call() -> list[str]:
        set_current_turn(new_turn("calls"))
        done = [await lanes.run(lambda: "first")]
        others = [asyncio.create_task(in_lane(lanes, "calls", go.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(1.5, go.set)
        done.append(await lanes.run(lambda: "second"))
        await asyncio.gather(*others)
        return done

    assert await asyncio.create_task(call()) == ["first", "second"]


async def test_streams_that_ask_for_the_same_while_they_wait_get_one_answer(lanes: ThreadLanes) -> None:
    go, looks = threading.Event(), 0

    def look() -> int:
        nonlocal looks
        looks += 1
        go.wait()
        return looks

    first = asyncio.create_task(lanes.run_shared("run-1", look, "streams"))
    while not looks:
        await asyncio.sleep(0.01)
    # The first look has begun: it may not have seen what these wait for.
    others = [asyncio.create_task(lanes.run_shared("run-1", look, "streams")) for _ in range(100)]
    await asyncio.sleep(0)
    others[0].cancel()
    go.set()
    assert await first == 1
    assert await asyncio.gather(*others[1:]) == [2] * 99


def test_the_write_lock_goes_to_workers_first() -> None:
    lock, order = WriteLock(), list[str]()
    taken, go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.held(urgent=False):
            taken.set()
            go.wait()

    def write(name: str, urgent: bool) -> None:
        with lock.held(urgent=urgent):
            order.append(name)

    def waiting() -> int:
        return len(lock._urgent) + len(lock._others)

    with ThreadPoolExecutor(6) as threads:
        threads.submit(hold)
        taken.wait()
        for name, urgent in (("call 1", False), ("call 2", False), ("beat 1", True), ("beat 2", True)):
            before = waiting()
            threads.submit(write, name, urgent)
            while waiting() == before:
                time.sleep(0.001)
        go.set()
    assert order == ["beat 1", "beat 2", "call 1", "call 2"]
    with lock.held(urgent=False):
        pass
