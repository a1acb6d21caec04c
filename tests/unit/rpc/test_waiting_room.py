from __future__ import annotations

import asyncio
import time

import pytest

from tunix_rt.errors import Exhausted
from tunix_rt.rpc.lanes import QUEUE_SECONDS, Lane, Turn, new_turn
from tunix_rt.rpc.waiting_room import WaitingRoom


class Calls:
    """Enters a room under names; ``order`` is who got a place, one after the other."""

    def __init__(self, lane: Lane = "calls", places: int = 1) -> None:
        self.room = WaitingRoom(lane, places, "test")
        self.order: list[str] = []
        self.go = asyncio.Event()

    async def call(self, name: str, turn: Turn) -> None:
        async with self.room.place(turn):
            self.order.append(name)
            await self.go.wait()

    async def begin(self, name: str, turn: Turn) -> asyncio.Task[None]:
        task = asyncio.create_task(self.call(name, turn))
        await asyncio.sleep(0)
        return task


async def test_who_waits_is_let_in_in_order() -> None:
    calls = Calls()
    tasks = [await calls.begin(str(number), new_turn("calls")) for number in range(4)]
    assert calls.order == ["0"]
    calls.go.set()
    await asyncio.gather(*tasks)
    assert calls.order == ["0", "1", "2", "3"]


async def test_who_has_waited_for_a_second_is_refused_and_told_when_to_come_back() -> None:
    calls = Calls()
    first = await calls.begin("first", new_turn("calls"))
    begin = time.monotonic()
    with pytest.raises(Exhausted) as refused:
        await calls.call("second", new_turn("calls"))
    assert QUEUE_SECONDS - 0.05 <= time.monotonic() - begin < QUEUE_SECONDS + 1
    assert 1.0 <= refused.value.retry_after_seconds <= 5.0
    calls.go.set()
    await first
    await calls.call("third", new_turn("calls"))
    assert calls.order == ["first", "third"]


async def test_under_overload_the_newest_goes_first() -> None:
    calls = Calls()
    now = time.monotonic()
    tasks = [await calls.begin("holder", new_turn("calls"))]
    for name, waited in (("old", 0.9), ("middle", 0.8), ("new", 0.0)):
        tasks.append(await calls.begin(name, Turn("calls", now + 100, came=now - waited)))
    calls.go.set()
    await asyncio.gather(*tasks)
    assert calls.order == ["holder", "new", "middle", "old"]


async def test_workers_are_let_in_in_order_however_long_they_wait() -> None:
    calls = Calls("control")
    now = time.monotonic()
    tasks = [await calls.begin("holder", new_turn("control"))]
    tasks += [await calls.begin(name, Turn("control", now + 100, came=now - 0.9)) for name in "ab"]
    calls.go.set()
    await asyncio.gather(*tasks)
    assert calls.order == ["holder", "a", "b"]


async def test_what_has_begun_goes_first_and_is_never_refused() -> None:
    calls = Calls()
    tasks = [await calls.begin("holder", new_turn("calls")), await calls.begin("new", new_turn("calls"))]
    tasks.append(await calls.begin("begun", Turn("calls", begin_by=0.0, begun=True)))
    calls.go.set()
    await asyncio.gather(*tasks)
    assert calls.order == ["holder", "begun", "new"]


async def test_who_gives_up_leaves_its_place_to_the_next() -> None:
    calls = Calls()
    holder, quitter, last = [await calls.begin(name, new_turn("calls")) for name in ("holder", "quitter", "last")]
    quitter.cancel()
    calls.go.set()
    await asyncio.gather(holder, last)
    assert calls.order == ["holder", "last"]
    # Also where it was let in at the moment at which it gave up.
    calls.go.clear()
    holder, quitter, last = [await calls.begin(name, new_turn("calls")) for name in ("holder", "quitter", "last")]
    holder.cancel()
    await asyncio.sleep(0)
    quitter.cancel()
    calls.go.set()
    await asyncio.wait_for(last, 5)
    assert calls.order[2:] == ["holder", "last"]


async def test_a_free_place_is_given_however_late_it_is() -> None:
    calls = Calls()
    calls.go.set()
    await calls.call("late", Turn("calls", begin_by=0.0))
    assert calls.order == ["late"]
