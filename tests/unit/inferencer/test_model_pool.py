"""Loading, sharing and evicting models."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tunix_rt.contract.weight_formats import INT8_V1
from tunix_rt.errors import Exhausted, FailedPrecondition, InvalidArtifact, NotFound
from tunix_rt.inferencer.driver import Driver
from tunix_rt.inferencer.model_pool import ModelPool, handle_of


@asynccontextmanager
async def pool_of(loader: Any, **options: Any) -> AsyncIterator[ModelPool]:
    driver = Driver()
    driver.start()
    pool = ModelPool(loader, driver, **options)
    try:
        yield pool
    finally:
        await pool.close()
        await asyncio.to_thread(driver.stop)


async def test_concurrent_loads_of_one_model_are_one_load(arithmetic_loader: Callable[..., Any]) -> None:
    loader = arithmetic_loader()
    async with pool_of(loader) as pool:
        models = await asyncio.gather(*(pool.load("test://a") for _ in range(10)))
        again = await pool.load("test://a", models[0].digest)
    assert loader.loads == ["test://a"]
    assert {model.handle for model in [*models, again]} == {handle_of(models[0].digest)}


async def test_one_content_in_two_weight_formats_is_two_models(arithmetic_loader: Callable[..., Any]) -> None:
    loader = arithmetic_loader()
    async with pool_of(loader) as pool:
        plain, int8, again = await asyncio.gather(
            *(pool.load("test://a", weight_format=wanted) for wanted in ("", INT8_V1, INT8_V1))
        )
        assert sorted(loader.loads) == ["test://a", f"test://a#{INT8_V1}"]
        assert int8 is again
        assert (plain.digest, plain.weight_format) == (int8.digest, "")
        assert int8.weight_format == INT8_V1
        assert plain.handle == handle_of(plain.digest) == f"loaded-{plain.digest[7:39]}"
        assert int8.handle == f"{plain.handle}-int8-v1"
        # By digest, the one in the wanted format is found without another load.
        assert await pool.load("test://elsewhere", plain.digest, INT8_V1) is int8
        assert await pool.load("test://elsewhere", plain.digest) is plain
        pool.unload(plain.handle)
        assert pool.models() == [int8]


async def test_a_caller_that_goes_away_does_not_end_the_load(arithmetic_loader: Callable[..., Any]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert go_on.wait(10)

    async with pool_of(arithmetic_loader(before_load=hold)) as pool:
        impatient = asyncio.create_task(pool.load("test://a"))
        patient = asyncio.create_task(pool.load("test://a"))
        await asyncio.to_thread(begun.wait, 10)
        impatient.cancel()
        go_on.set()
        assert (await patient).reference == "test://a"
        assert (await asyncio.gather(impatient, return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def test_the_event_loop_runs_while_a_model_loads(arithmetic_loader: Callable[..., Any]) -> None:
    go_on = threading.Event()
    async with pool_of(arithmetic_loader(before_load=lambda: None if go_on.wait(10) else pytest.fail("held"))) as pool:
        load = asyncio.create_task(pool.load("test://a"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not load.done()
        go_on.set()
        await load


async def test_content_with_another_digest_is_an_invalid_artifact(arithmetic_loader: Callable[..., Any]) -> None:
    loader = arithmetic_loader()
    async with pool_of(loader) as pool:
        with pytest.raises(InvalidArtifact, match="not sha256:00"):
            await pool.load("test://a", "sha256:" + "0" * 64)
        assert loader.loads == []
        assert pool.models() == []


async def test_a_failed_load_leaves_nothing_and_can_be_repeated(arithmetic_loader: Callable[..., Any]) -> None:
    async with pool_of(arithmetic_loader()) as pool:
        with pytest.raises(NotFound):
            await pool.load("nowhere://a")
        assert pool.models() == []
        assert (await pool.load("test://a")).users == 0


async def test_the_idle_model_used_longest_ago_is_evicted(arithmetic_loader: Callable[..., Any]) -> None:
    ticks = iter(range(1000))
    async with pool_of(arithmetic_loader(), max_models=2, clock=lambda: float(next(ticks))) as pool:
        a, b = await pool.load("test://a"), await pool.load("test://b")
        with pool.using(a.handle):
            pass
        c = await pool.load("test://c")
        assert {model.handle for model in pool.models()} == {a.handle, c.handle}
        with pytest.raises(NotFound), pool.using(b.handle):
            pass


async def test_a_model_in_use_is_never_evicted(arithmetic_loader: Callable[..., Any]) -> None:
    async with pool_of(arithmetic_loader(), max_models=1) as pool:
        a = await pool.load("test://a")
        with pool.using(a.handle):
            with pytest.raises(Exhausted):
                await pool.load("test://b")
            with pytest.raises(FailedPrecondition):
                pool.unload(a.handle)
            assert pool.models() == [a]
        assert (await pool.load("test://b")).handle != a.handle
        assert pool.find(a.handle) is None


async def test_the_memory_budget_evicts_too(arithmetic_loader: Callable[..., Any]) -> None:
    async with pool_of(arithmetic_loader(memory_bytes=400), max_models=9, memory_budget=1000) as pool:
        for name in "abc":
            await pool.load(f"test://{name}")
        assert sorted(model.reference for model in pool.models()) == ["test://b", "test://c"]
    async with pool_of(arithmetic_loader(memory_bytes=1001), memory_budget=1000) as pool:
        with pytest.raises(FailedPrecondition, match="may use"):
            await pool.load("test://a")


async def test_unloading_forgets_the_model(arithmetic_loader: Callable[..., Any]) -> None:
    async with pool_of(arithmetic_loader()) as pool:
        model = await pool.load("test://a")
        pool.unload(model.handle)
        assert pool.models() == []
        with pytest.raises(NotFound):
            pool.unload(model.handle)


async def test_a_load_that_takes_too_long_is_given_up_and_the_next_one_begins(
    arithmetic_loader: Callable[..., Any],
) -> None:
    go_on = threading.Event()
    loader = arithmetic_loader(before_load=lambda: go_on.wait(30))
    async with pool_of(loader, load_seconds=0.2) as pool:
        with pytest.raises(FailedPrecondition, match="TUNIX_RT_INFERENCER_LOAD_SECONDS"):
            await pool.load("test://hangs")
        loader.before_load = lambda: None
        assert (await pool.load("test://a")).reference == "test://a"
        go_on.set()
        assert [model.reference for model in pool.models()] == ["test://a"]


async def test_a_panic_of_native_code_is_an_error_of_the_model(arithmetic_loader: Callable[..., Any]) -> None:
    class PanicException(BaseException):
        """As pyo3's, which is no Exception."""

    def panic() -> None:
        raise PanicException("called `Option::unwrap()` on a `None` value")

    loader = arithmetic_loader(before_load=panic)
    async with pool_of(loader) as pool:
        with pytest.raises(InvalidArtifact, match="native code failed"):
            await pool.load("test://a")
        loader.before_load = lambda: None
        assert (await pool.load("test://a")).reference == "test://a"
