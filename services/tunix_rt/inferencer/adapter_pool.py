"""The adapters loaded on each model. Concurrent loads coalesce; the least recently used idle adapter is evicted.

Runs on the event loop. It shares the model pool's loader thread, memory budget and lock. An adapter in use is never
evicted.
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
from tunix_rt.inferencer.engine.interface import AdapterFactors
from tunix_rt.inferencer.loaded_adapter import LoadedAdapter, ResolvedAdapter, ServableAdapter, adapter_handle
from tunix_rt.inferencer.model_pool import LoadedModel, ModelPool, Servable
from tunix_rt.inferencer.scheduler import Scheduler
from tunix_rt.inferencer.shared_loads import SharedLoads
from tunix_rt.observability.logs import get_logger

_log = get_logger(__name__)


class AdapterLoader(Protocol):
    """Blocking methods, called in the pool's loader thread, one at a time."""

    def find_adapter(self, reference: str) -> ResolvedAdapter:
        """Raises `InvalidInput`, `NotFound`, `InvalidArtifact` or `Transient`."""
        ...

    def load_adapter(self, resolved: ResolvedAdapter, servable: Servable) -> ServableAdapter:
        """Read and verify. Raises `InvalidArtifact`."""
        ...


@dataclass(frozen=True)
class ServedModel:
    """A loaded model as selected by a request: with one of its adapters, or alone."""

    model: LoadedModel
    adapter: LoadedAdapter | None = None

    @property
    def handle(self) -> str:
        return self.adapter.handle if self.adapter else self.model.handle

    @property
    def adapter_name(self) -> str:
        """The adapter's name in the engine; "": none."""
        return self.adapter.handle if self.adapter else ""

    @property
    def reference(self) -> str:
        """What the caller's project has loaded it by."""
        loaded = self.adapter or self.model
        return loaded.holders.reference(loaded.reference)

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
        """The model's servable, with the adapter's own tokenizer and end-of-sequence tokens."""
        servable = self.model.servable
        if self.adapter is None:
            return servable
        own = self.adapter.servable
        return replace(servable, tokenizer=own.tokenizer, eos_ids=own.eos_ids, threads=own.threads)


class AdapterPool:
    """Loads, finds and evicts adapters. Not thread-safe: use it on the model pool's event loop."""

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
        """Load the adapter ``reference`` on the model with the handle ``model``.

        Raises `NotFound` for a model that is not loaded, `InvalidInput` for an adapter of another base model or of too
        high a rank, `InvalidArtifact` when the content does not have ``expected_digest``, `Exhausted` when all adapters
        of the model are in use, `FailedPrecondition` when adapters are turned off, and what `AdapterLoader` raises.
        """
        with self._models.using(model) as loaded:
            known = loaded.adapters.get(adapter_handle(model, expected_digest))
            if known is not None and known.holders.include_caller():
                return self._touched(known)
        key = (model, reference, expected_digest)
        adapter = self._touched(await self._loads.result(key, lambda: self._load(*key)))
        adapter.holders.add_caller(reference)
        return adapter

    @contextmanager
    def using(self, model: str, adapter: str = "") -> Iterator[ServedModel]:
        """Use a model and optionally one of its adapters; neither is evicted meanwhile. Raises `NotFound`."""
        with self._models.using(model) as loaded:
            if not adapter:
                yield ServedModel(loaded)
                return
            found = loaded.adapters.get(adapter)
            if found is None or not found.holders.include_caller():
                raise NotFound(f"adapter {adapter!r} is not loaded on model {model!r}; call LoadAdapter first")
            found.users += 1
            try:
                yield ServedModel(loaded, self._touched(found))
            finally:
                found.users -= 1
                self._touched(found)

    def find(self, name: str) -> ServedModel | None:
        """The model or adapter with this handle, or the only one loaded from this reference."""
        served = [one for model in self._models.models() for one in self.served(model)]
        by_reference = [found for found in served if found.reference == name]
        by_handle = [found for found in served if found.handle == name]
        return next(iter(by_handle), None) or (by_reference[0] if len(by_reference) == 1 else None)

    def served(self, model: LoadedModel) -> list[ServedModel]:
        """The model alone, then with each of its adapters."""
        return [ServedModel(model), *(ServedModel(model, adapter) for adapter in self.of(model))]

    def of(self, model: LoadedModel) -> list[LoadedAdapter]:
        """The model's adapters that the caller's project has loaded, most recently used first."""
        return [adapter for adapter in _most_recent_first(model) if adapter.holders.include_caller()]

    def unload(self, handle: str) -> None:
        """Remove an adapter, unless another project has loaded it, too. Raises `NotFound`, and `FailedPrecondition` for
        one in use."""
        for model in self._models.models():
            adapter = model.adapters.get(handle)
            if adapter is not None and adapter.holders.include_caller():
                if adapter.users:
                    raise FailedPrecondition(f"adapter {handle!r} is in use by {adapter.users} requests")
                if adapter.holders.remove_caller():
                    model.adapters.pop(handle).close()
                return
        raise NotFound(f"adapter {handle!r} is not loaded here")

    async def close(self) -> None:
        """Cancel loads. Call it before the model pool's `close`."""
        await self._loads.cancel()

    async def _load(self, handle: str, reference: str, expected_digest: str) -> LoadedAdapter:
        with self._models.using(handle) as model:
            async with self._models.loading(reference):
                run_in_loader, started = self._models.run_in_loader, self._clock()
                resolved = await run_in_loader(self._loader.find_adapter, reference)
                if expected_digest and resolved.digest != expected_digest:
                    raise InvalidArtifact(f"{reference} has the digest {resolved.digest}, not {expected_digest}")
                name = adapter_handle(handle, resolved.digest)
                known = model.adapters.get(name)
                if known is not None:
                    return known
                _check_fits(resolved, model)
                engine = model.servable.engine
                found = await run_in_loader(self._loader.load_adapter, resolved, model.servable)
                if not model.adapter_bytes:
                    self._models.make_room(f"{model.reference} with adapters", engine.adapter_bytes, grows=model)
                index = self._free_index(model)
                put = await run_in_loader(engine.prepare_adapter, index, name, found.factors)
                model.adapter_bytes = engine.adapter_bytes
                # Between two rounds no slot uses the adapter that is replaced.
                await asyncio.wrap_future(self._driver.between_rounds(handle, put))
                now = self._clock()
                model.adapters[name] = adapter = LoadedAdapter(
                    handle=name,
                    reference=reference,
                    digest=resolved.digest,
                    model=handle,
                    index=index,
                    rank=resolved.rank,
                    memory_bytes=engine.adapter_bytes // engine.max_adapters,
                    load_seconds=now - started,
                    servable=replace(found, factors=AdapterFactors(found.factors.rank, {})),
                    last_used=now,
                )
                _log.info("adapter ready", handle=name, reference=reference, seconds=round(adapter.load_seconds, 3))
                return adapter

    def _free_index(self, model: LoadedModel) -> int:
        """A free adapter index; evicts the least recently used idle adapter if necessary."""
        taken = {adapter.index for adapter in model.adapters.values()}
        free = set(range(model.servable.engine.max_adapters)) - taken
        if free:
            return min(free)
        idle = [adapter for adapter in _most_recent_first(model) if not adapter.users]
        if not idle:
            raise Exhausted("no adapter can be evicted: all adapters of this model are in use", retry_after_seconds=2.0)
        _log.info("adapter evicted", handle=idle[-1].handle, reference=idle[-1].reference)
        idle[-1].close()
        return model.adapters.pop(idle[-1].handle).index

    def _touched(self, adapter: LoadedAdapter) -> LoadedAdapter:
        adapter.last_used = self._clock()
        return adapter


def _most_recent_first(model: LoadedModel) -> list[LoadedAdapter]:
    return sorted(model.adapters.values(), key=lambda adapter: -adapter.last_used)


def _check_fits(resolved: ResolvedAdapter, model: LoadedModel) -> None:
    engine = model.servable.engine
    if not engine.max_adapters:
        raise FailedPrecondition("adapters are turned off on this inferencer: TUNIX_RT_INFERENCER_ADAPTERS is 0")
    bad = Violations()
    what = f"was trained on {resolved.base}, not on {model.reference} ({model.digest})"
    bad.check(resolved.base_digest == model.digest, "reference", what)
    most = f"at most {engine.adapter_rank} is supported (TUNIX_RT_INFERENCER_ADAPTER_RANK)"
    bad.check(resolved.rank <= engine.adapter_rank, "reference", f"has rank {resolved.rank}; {most}")
    bad.raise_if_any()
