"""Which adapters are loaded on which model: loads coalesce, and the idle one that was used longest ago makes room.

Lives on the event loop, like the model pool, whose loader thread, budget and lock it shares. An adapter that somebody
uses is never replaced. Knows no gRPC; how a reference becomes factors is an `AdapterLoader`'s business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from tunix_rt.errors import Exhausted, FailedPrecondition, InvalidArtifact, NotFound, Violations
from tunix_rt.inferencer.driver import Driver
from tunix_rt.inferencer.loaded_adapter import LoadedAdapter, ResolvedAdapter, ServableAdapter, adapter_handle
from tunix_rt.inferencer.model_pool import LoadedModel, ModelPool, Servable
from tunix_rt.inferencer.scheduler import Scheduler
from tunix_rt.inferencer.shared_loads import SharedLoads
from tunix_rt.observability.logs import get_logger

_log = get_logger(__name__)


class AdapterLoader(Protocol):
    """Both methods block and are called in the pool's loader thread, one at a time."""

    def find_adapter(self, reference: str) -> ResolvedAdapter:
        """Raises `InvalidInput`, `NotFound`, `InvalidArtifact` or `Transient`."""
        ...

    def load_adapter(self, candidate: ResolvedAdapter, servable: Servable) -> ServableAdapter:
        """Read and verify. Raises `InvalidArtifact`."""
        ...


@dataclass(frozen=True)
class ServedModel:
    """A loaded model as one request has it: with one of its adapters, or alone."""

    model: LoadedModel
    adapter: LoadedAdapter | None = None

    @property
    def handle(self) -> str:
        return self.adapter.handle if self.adapter else self.model.handle

    @property
    def adapter_name(self) -> str:
        """By which the engine knows it; "" for none."""
        return self.adapter.handle if self.adapter else ""

    @property
    def digest(self) -> str:
        return self.model.digest

    @property
    def weight_format(self) -> str:
        return self.model.weight_format

    @property
    def adapter_digest(self) -> str:
        return self.adapter.digest if self.adapter else ""

    @property
    def scheduler(self) -> Scheduler:
        return self.model.scheduler

    @cached_property
    def servable(self) -> Servable:
        """The model's, with the adapter's own tokenizer and end-of-sequence tokens."""
        servable, adapter = self.model.servable, self.adapter
        return replace(servable, tokenizer=adapter.tokenizer, eos_ids=adapter.eos_ids) if adapter else servable


class AdapterPool:
    """Loads, finds and replaces adapters. Not thread-safe: use it on the model pool's event loop."""

    def __init__(
        self, models: ModelPool, loader: AdapterLoader, driver: Driver, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._models = models
        self._loader = loader
        self._driver = driver
        self._clock = clock
        self._loads: SharedLoads[LoadedAdapter] = SharedLoads(
            lambda key, error: _log.warning("adapter not loaded", adapter=key, error=str(error))
        )

    async def load(self, model: str, reference: str, expected_digest: str = "") -> LoadedAdapter:
        """The adapter of ``reference`` on the model with the handle ``model``, READY.

        Raises `NotFound` for a model that is not loaded, `InvalidInput` for an adapter of another model or of too
        large a rank, `InvalidArtifact` when the content does not have ``expected_digest``, `Exhausted` when every
        place is in use, `FailedPrecondition` when there are none, and what `AdapterLoader` raises.
        """
        with self._models.using(model) as loaded:
            known = loaded.adapters.get(adapter_handle(model, expected_digest))
            if known is not None:
                return self._touched(known)
        key = (model, reference, expected_digest)
        return self._touched(await self._loads.result(key, lambda: self._load(*key)))

    @contextmanager
    def using(self, model: str, adapter: str = "") -> Iterator[ServedModel]:
        """Hold a model, and one of its adapters, against eviction. Raises `NotFound` for what is not loaded."""
        with self._models.using(model) as loaded:
            if not adapter:
                yield ServedModel(loaded)
                return
            found = loaded.adapters.get(adapter)
            if found is None:
                raise NotFound(f"adapter {adapter!r} is not loaded on model {model!r}; call LoadAdapter first")
            found.users += 1
            try:
                yield ServedModel(loaded, self._touched(found))
            finally:
                found.users -= 1
                self._touched(found)

    def named(self, name: str) -> ServedModel | None:
        """The model or adapter with this handle, or the only one of them that was loaded by this reference."""
        served = [one for model in self._models.models() for one in self.served(model)]
        by_reference = [found for found in served if (found.adapter or found.model).reference == name]
        by_handle = [found for found in served if found.handle == name]
        return next(iter(by_handle), None) or (by_reference[0] if len(by_reference) == 1 else None)

    def served(self, model: LoadedModel) -> list[ServedModel]:
        """The model alone, then with each of its adapters."""
        return [ServedModel(model), *(ServedModel(model, adapter) for adapter in self.of(model))]

    def of(self, model: LoadedModel) -> list[LoadedAdapter]:
        """The model's adapters, the one used last first."""
        return sorted(model.adapters.values(), key=lambda adapter: -adapter.last_used)

    def unload(self, handle: str) -> None:
        """Raises `NotFound`, and `FailedPrecondition` while the adapter is in use. Its place is free for another."""
        for model in self._models.models():
            adapter = model.adapters.get(handle)
            if adapter is not None:
                if adapter.users:
                    raise FailedPrecondition(f"adapter {handle!r} is in use by {adapter.users} requests")
                del model.adapters[handle]
                return
        raise NotFound(f"adapter {handle!r} is not loaded here")

    async def close(self) -> None:
        """Cancel loads; to be called before the model pool's."""
        await self._loads.cancel()

    async def _load(self, handle: str, reference: str, expected_digest: str) -> LoadedAdapter:
        with self._models.using(handle) as model:
            async with self._models.one_at_a_time:
                in_loader, started = self._models.in_loader, self._clock()
                candidate = await in_loader(self._loader.find_adapter, reference)
                if expected_digest and candidate.digest != expected_digest:
                    raise InvalidArtifact(f"{reference} has the digest {candidate.digest}, not {expected_digest}")
                name = adapter_handle(handle, candidate.digest)
                known = model.adapters.get(name)
                if known is not None:
                    return known
                _check_fits(candidate, model)
                engine = model.servable.engine
                found = await in_loader(self._loader.load_adapter, candidate, model.servable)
                if not model.adapter_bytes:
                    self._models.make_room(f"{model.reference} with adapters", engine.adapter_bytes, grows=model)
                place = self._free_place(model)
                put = await in_loader(engine.prepare_adapter, place, name, found.factors)
                model.adapter_bytes = engine.adapter_bytes
                # Between two rounds: what requests of the adapter that was there have left in slots is gone by then.
                await asyncio.wrap_future(self._driver.between_rounds(handle, put))
                now = self._clock()
                model.adapters[name] = adapter = LoadedAdapter(
                    handle=name,
                    reference=reference,
                    digest=candidate.digest,
                    model=handle,
                    place=place,
                    rank=candidate.rank,
                    memory_bytes=engine.adapter_bytes // engine.adapter_places,
                    load_seconds=now - started,
                    tokenizer=found.tokenizer,
                    eos_ids=found.eos_ids,
                    last_used=now,
                )
                _log.info("adapter ready", handle=name, reference=reference, seconds=round(adapter.load_seconds, 3))
                return adapter

    def _free_place(self, model: LoadedModel) -> int:
        """A place that no adapter has, if need be because the idle one that was used longest ago leaves it."""
        taken = {adapter.place for adapter in model.adapters.values()}
        free = set(range(model.servable.engine.adapter_places)) - taken
        if free:
            return min(free)
        idle = [adapter for adapter in self.of(model) if not adapter.users]
        if not idle:
            raise Exhausted("there is no room: every adapter of this model is in use", retry_after_seconds=2.0)
        _log.info("adapter evicted", handle=idle[-1].handle, reference=idle[-1].reference)
        return model.adapters.pop(idle[-1].handle).place

    def _touched(self, adapter: LoadedAdapter) -> LoadedAdapter:
        adapter.last_used = self._clock()
        return adapter


def _check_fits(candidate: ResolvedAdapter, model: LoadedModel) -> None:
    engine = model.servable.engine
    if not engine.adapter_places:
        raise FailedPrecondition("this inferencer takes no adapters: TUNIX_RT_INFERENCER_ADAPTERS is 0")
    bad = Violations()
    what = f"was trained on {candidate.base}, and not on {model.reference} ({model.digest})"
    bad.check(candidate.base_digest == model.digest, "reference", what)
    most = f"{engine.adapter_rank} (TUNIX_RT_INFERENCER_ADAPTER_RANK)"
    bad.check(
        candidate.rank <= engine.adapter_rank, "reference", f"has rank {candidate.rank}; here it may be at most {most}"
    )
    bad.raise_if_any()
