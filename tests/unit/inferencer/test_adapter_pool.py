"""Loading, sharing and replacing adapters."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
from tests.fixtures.fake_engine import FakeEngine

from tunix_rt.contract.weight_formats import INT8_V1
from tunix_rt.errors import Exhausted, FailedPrecondition, InvalidArtifact, InvalidInput, NotFound, Transient
from tunix_rt.inferencer.adapter_pool import AdapterPool
from tunix_rt.inferencer.driver import Driver
from tunix_rt.inferencer.loaded_adapter import adapter_handle
from tunix_rt.inferencer.model_pool import LoadedModel, ModelPool


@asynccontextmanager
async def pools_of(loader: Any, **options: Any) -> AsyncIterator[tuple[ModelPool, AdapterPool, Driver]]:
    ticks = iter(range(100_000))
    driver = Driver()
    driver.start()
    models = ModelPool(loader, driver, clock=lambda: float(next(ticks)), **options)
    adapters = AdapterPool(models, loader, driver, clock=lambda: float(next(ticks)))
    try:
        yield models, adapters, driver
    finally:
        await adapters.close()
        await models.close()
        await asyncio.to_thread(driver.stop)


def references(adapters: AdapterPool, model: LoadedModel) -> list[str]:
    return sorted(adapter.reference for adapter in adapters.of(model))


async def test_concurrent_loads_of_one_adapter_are_one_load(arithmetic_loader: Callable[..., Any]) -> None:
    loader = arithmetic_loader()
    async with pools_of(loader) as (models, adapters, _):
        model = await models.load("test://a")
        loads = [adapters.load(model.handle, "adapter://x/3/a") for _ in range(10)]
        found = await asyncio.gather(*loads, adapters.load(model.handle, "adapter://y/4/a"))
        again = await adapters.load(model.handle, "elsewhere", found[0].digest)
        assert loader.loads == ["test://a", "adapter://x/3/a", "adapter://y/4/a"]
        assert {adapter.handle for adapter in [*found[:10], again]} == {adapter_handle(model.handle, again.digest)}
        assert (found[0].index, found[10].index) == (0, 1)
        assert found[0].rank == 3


async def test_a_caller_that_goes_away_does_not_end_the_load(arithmetic_loader: Callable[..., Any]) -> None:
    loader = arithmetic_loader()
    async with pools_of(loader) as (models, adapters, _):
        model = await models.load("test://a")
        begun, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            begun.set()
            assert go_on.wait(10)

        loader.before_load = hold
        impatient = asyncio.create_task(adapters.load(model.handle, "adapter://x/3/a"))
        patient = asyncio.create_task(adapters.load(model.handle, "adapter://x/3/a"))
        await asyncio.to_thread(begun.wait, 10)
        with pytest.raises(FailedPrecondition, match="in use"):
            models.unload(model.handle)
        impatient.cancel()
        go_on.set()
        assert (await patient).reference == "adapter://x/3/a"
        assert (await asyncio.gather(impatient, return_exceptions=True))[0].__class__ is asyncio.CancelledError
        assert model.users == 0


async def test_the_idle_adapter_used_longest_ago_makes_room(arithmetic_loader: Callable[..., Any]) -> None:
    async with pools_of(arithmetic_loader()) as (models, adapters, _):
        model = await models.load("test://a")
        x = await adapters.load(model.handle, "adapter://x/1/a")
        y = await adapters.load(model.handle, "adapter://y/2/a")
        with adapters.using(model.handle, x.handle):
            pass
        z = await adapters.load(model.handle, "adapter://z/3/a")
        assert references(adapters, model) == ["adapter://x/1/a", "adapter://z/3/a"]
        assert z.index == y.index
        with pytest.raises(NotFound), adapters.using(model.handle, y.handle):
            pass
        assert model.users == 0


async def test_an_adapter_in_use_is_never_replaced_nor_unloaded(arithmetic_loader: Callable[..., Any]) -> None:
    async with pools_of(arithmetic_loader()) as (models, adapters, _):
        model = await models.load("test://a")
        loaded = [await adapters.load(model.handle, f"adapter://{name}/1/a") for name in "xy"]
        with ExitStack() as users:
            for adapter in loaded:
                users.enter_context(adapters.using(model.handle, adapter.handle))
            with pytest.raises(Exhausted, match="in use"):
                await adapters.load(model.handle, "adapter://z/1/a")
            with pytest.raises(FailedPrecondition, match="in use by 1 requests"):
                adapters.unload(loaded[0].handle)
            assert references(adapters, model) == ["adapter://x/1/a", "adapter://y/1/a"]
        adapters.unload(loaded[0].handle)
        with pytest.raises(NotFound):
            adapters.unload(loaded[0].handle)
        assert (await adapters.load(model.handle, "adapter://z/1/a")).index == loaded[0].index


async def test_rank_and_base_are_refused_at_once(arithmetic_loader: Callable[..., Any]) -> None:
    loader = arithmetic_loader()
    async with pools_of(loader) as (models, adapters, _):
        model = await models.load("test://a")
        with pytest.raises(InvalidInput) as refused:
            await adapters.load(model.handle, "adapter://x/9/b")
        wrong_base, wrong_rank = refused.value.violations
        assert {wrong_base.field, wrong_rank.field} == {"reference"}
        assert "was trained on test://b, not on test://a" in wrong_base.description
        assert "rank 9; at most 8 is supported (TUNIX_RT_INFERENCER_ADAPTER_RANK)" in wrong_rank.description
        with pytest.raises(InvalidArtifact, match="not sha256:00"):
            await adapters.load(model.handle, "adapter://x/1/a", "sha256:" + "0" * 64)
        with pytest.raises(NotFound, match="is not loaded"):
            await adapters.load("loaded-0", "adapter://x/1/a")
        with pytest.raises(NotFound, match="is not there"):
            await adapters.load(model.handle, "nowhere://x")
        assert loader.loads == ["test://a"]
        assert (adapters.of(model), model.adapter_bytes, model.users) == ([], 0, 0)
        assert (await adapters.load(model.handle, "adapter://x/8/a")).rank == 8


async def test_adapters_can_be_off(arithmetic_loader: Callable[..., Any]) -> None:
    async with pools_of(arithmetic_loader(engine=lambda: FakeEngine(adapters=0))) as (models, adapters, _):
        model = await models.load("test://a")
        with pytest.raises(FailedPrecondition, match="TUNIX_RT_INFERENCER_ADAPTERS is 0"):
            await adapters.load(model.handle, "adapter://x/1/a")


async def test_their_memory_counts_in_the_budget(arithmetic_loader: Callable[..., Any]) -> None:
    # Two adapters of rank 8 take 16 bytes, from the first adapter on.
    async with pools_of(arithmetic_loader(memory_bytes=400), memory_budget=815) as (models, adapters, _):
        a, b = await models.load("test://a"), await models.load("test://b")
        first = await adapters.load(b.handle, "adapter://x/1/b")
        assert models.find(a.handle) is None, "the idle model should have made room"
        second = await adapters.load(b.handle, "adapter://y/1/b")
        assert (b.memory_bytes, first.memory_bytes, second.memory_bytes) == (416, 8, 8)
        await models.load("test://a")
        assert models.find(b.handle) is None
    async with pools_of(arithmetic_loader(memory_bytes=400), memory_budget=415) as (models, adapters, _):
        a = await models.load("test://a")
        with pytest.raises(FailedPrecondition, match="may use"):
            await adapters.load(a.handle, "adapter://x/1/a")
        assert models.find(a.handle) is a


async def test_names_find_models_and_adapters_where_one_is_meant(arithmetic_loader: Callable[..., Any]) -> None:
    async with pools_of(arithmetic_loader()) as (models, adapters, _):
        a, b = await models.load("test://a"), await models.load("test://b")
        adapter = await adapters.load(a.handle, "adapter://x/1/a")
        for name in (adapter.handle, adapter.reference):
            found = adapters.find(name)
            assert found is not None
            assert (found.model, found.adapter, found.handle) == (a, adapter, adapter.handle)
        found = adapters.find("test://b")
        assert found is not None
        assert (found.model, found.adapter) == (b, None)
        assert adapters.find("adapter://y/1/a") is None
        int8 = await models.load("test://b", weight_format=INT8_V1)
        assert adapters.find("test://b") is None
        # In another format the model is another, and so is the adapter on it.
        models.unload(b.handle)
        assert (await adapters.load(int8.handle, "adapter://x/1/b")).model == int8.handle
        found = adapters.find("test://b")
        assert found is not None
        assert found.model is int8
        # The same content on a model that is gone and comes back has the same handle.
        models.unload(a.handle)
        assert adapters.find(adapter.reference) is None
        assert (await models.load("test://a")).adapters == {}
        assert (await adapters.load(a.handle, "adapter://x/1/a")).handle == adapter.handle


async def test_an_engine_that_is_gone_by_then_is_unavailable(arithmetic_loader: Callable[..., Any]) -> None:
    loader = arithmetic_loader()
    async with pools_of(loader) as (models, adapters, driver):
        model = await models.load("test://a")
        loader.before_load = lambda: driver.detach(model.handle)
        with pytest.raises(Transient, match="load it again"):
            await adapters.load(model.handle, "adapter://x/1/a")
        assert model.adapters == {}


async def test_an_adapter_takes_its_place_between_two_rounds(arithmetic_loader: Callable[..., Any]) -> None:
    """While a round is under way nothing changes; what has no model any more or comes too late is told so."""
    async with pools_of(arithmetic_loader()) as (models, _, driver):
        model = await models.load("test://a")
        threads: list[str] = []
        await asyncio.wrap_future(
            driver.between_rounds(model.handle, lambda: threads.append(threading.current_thread().name))
        )
        assert threads == ["engine-driver"]
        broken = driver.between_rounds(model.handle, lambda: [][0])
        with pytest.raises(IndexError):
            await asyncio.wrap_future(broken)
        with pytest.raises(Transient):
            await asyncio.wrap_future(driver.between_rounds("loaded-0", lambda: None))
        await asyncio.to_thread(driver.stop)
        with pytest.raises(Transient):
            await asyncio.wrap_future(driver.between_rounds(model.handle, lambda: None))
