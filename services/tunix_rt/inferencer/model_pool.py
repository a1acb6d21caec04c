"""Which models are loaded: loads coalesce, memory is bounded, the idle model that was used longest ago goes first.

All of it lives on the event loop; reading files and compiling happens in one loader thread. A model that somebody
uses is never evicted. Knows no gRPC; how a reference becomes an engine is a `Loader`'s business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from tunix_rt.errors import Exhausted, FailedPrecondition, InvalidArtifact, NotFound, Violations
from tunix_rt.inferencer.driver import Driver
from tunix_rt.inferencer.engine.interface import Engine
from tunix_rt.inferencer.loaded_adapter import LoadedAdapter
from tunix_rt.inferencer.observer import IGNORE, Observer
from tunix_rt.inferencer.scheduler import Scheduler
from tunix_rt.inferencer.shared_loads import SharedLoads
from tunix_rt.inferencer.text import Tokenizer
from tunix_rt.observability.logs import get_logger

_log = get_logger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True)
class ResolvedModel:
    """A model that has been found and not been read. ``memory_bytes`` is what it will need once it is loaded."""

    reference: str
    digest: str
    memory_bytes: int
    weight_format: str = ""


@dataclass(frozen=True)
class Servable:
    """A warmed-up engine with what is needed to speak to it."""

    engine: Engine
    tokenizer: Tokenizer
    family: str
    parameter_count: int
    vocabulary: int
    eos_ids: frozenset[int]
    memory_bytes: int

    def check_ids(self, ids: Iterable[int], path: str, bad: Violations) -> None:
        """Record a violation at ``path`` unless all are token ids of this model."""
        known = all(0 <= token < self.vocabulary for token in ids)
        bad.check(known, path, f"must be token ids of this model, 0..{self.vocabulary - 1}")

    def check_length(
        self, prompt: Sequence[int], path: str, bad: Violations, *, answered: bool = True, verb: str = "has"
    ) -> None:
        """Record a violation at ``path`` unless a slot has room for ``prompt``, and for a token more if it is answered.

        ``verb`` suits what ``path`` names: "have" where that is several things.
        """
        limit = self.engine.capacity - answered
        bad.check(len(prompt) > 0, path, f"{verb} no tokens")
        bad.check(len(prompt) <= limit, path, f"{verb} {len(prompt)} tokens; this model takes at most {limit}")


class Loader(Protocol):
    """Both methods block and are called in the pool's loader thread, one at a time."""

    def find(self, reference: str, weight_format: str) -> ResolvedModel:
        """Raises `InvalidInput`, `NotFound`, `InvalidArtifact` or `Transient`."""
        ...

    def load(self, candidate: ResolvedModel) -> Servable:
        """Read, verify and compile. Raises `InvalidArtifact` and `InvalidInput`."""
        ...


@dataclass(eq=False)
class LoadedModel:
    """A model that is READY, in one weight format."""

    handle: str
    reference: str
    digest: str
    load_seconds: float
    servable: Servable
    scheduler: Scheduler
    last_used: float
    weight_format: str = ""
    users: int = 0
    # Seconds since the epoch.
    loaded_at: int = field(default_factory=lambda: int(time.time()))
    # The adapter pool's: by handle, and what all of them take.
    adapters: dict[str, LoadedAdapter] = field(default_factory=dict)
    adapter_bytes: int = 0

    @property
    def memory_bytes(self) -> int:
        return self.servable.memory_bytes + self.adapter_bytes


def handle_of(digest: str, weight_format: str = "") -> str:
    """A model's handle: the same after every restart, because it is made of the content and of its weights' format."""
    return "-".join(filter(None, ("loaded", digest.removeprefix("sha256:")[:32], weight_format)))


class ModelPool:
    """Loads, finds and evicts models. Not thread-safe: use it on one event loop."""

    def __init__(
        self,
        loader: Loader,
        driver: Driver,
        *,
        max_models: int = 4,
        memory_budget: int = 8 << 30,
        queue_limit: int = 256,
        observer: Observer = IGNORE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``memory_budget`` is in bytes: weights, caches and slot state of all models together."""
        self._loader = loader
        self._driver = driver
        self._max_models = max_models
        self._memory_budget = memory_budget
        self._queue_limit = queue_limit
        self._observer = observer
        self._clock = clock
        self._models: dict[str, LoadedModel] = {}
        self._loads: SharedLoads[LoadedModel] = SharedLoads(
            lambda key, error: _log.warning("model not loaded", model=key, error=str(error))
        )
        # Whoever uses `in_loader` or `make_room` holds it, until what was loaded is in its place.
        self.one_at_a_time = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-loader")

    async def load(self, reference: str, expected_digest: str = "", weight_format: str = "") -> LoadedModel:
        """The model of ``reference`` in one of the weight formats, READY. A caller that goes away does not end a load
        that others may wait for.

        Raises `InvalidArtifact` when the content does not have ``expected_digest``, `Exhausted` when there is no room
        because every loaded model is in use, `FailedPrecondition` when it could never fit, and what `Loader` raises.
        """
        if expected_digest:
            known = self._models.get(handle_of(expected_digest, weight_format))
            if known is not None and known.digest == expected_digest:
                return self._touched(known)
        key = (reference, expected_digest, weight_format)
        return self._touched(await self._loads.result(key, lambda: self._load(*key)))

    @contextmanager
    def using(self, handle: str) -> Iterator[LoadedModel]:
        """Hold a model against eviction. Raises `NotFound` for a handle that is not loaded."""
        model = self._models.get(handle)
        if model is None:
            raise NotFound(f"model {handle!r} is not loaded here; call LoadModel first")
        model.users += 1
        try:
            yield self._touched(model)
        finally:
            model.users -= 1
            self._touched(model)

    def find(self, handle: str) -> LoadedModel | None:
        return self._models.get(handle)

    def models(self) -> list[LoadedModel]:
        """Loaded models, the one used last first."""
        return sorted(self._models.values(), key=lambda model: -model.last_used)

    def unload(self, handle: str) -> None:
        """Raises `NotFound`, and `FailedPrecondition` while the model is in use."""
        model = self._models.get(handle)
        if model is None:
            raise NotFound(f"model {handle!r} is not loaded here")
        if model.users:
            raise FailedPrecondition(f"model {handle!r} is in use by {model.users} requests")
        self._remove(model)

    async def close(self) -> None:
        """Cancel loads that have not begun and wait for the one that has."""
        await self._loads.cancel()
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def in_loader(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The result of ``work``, done in the loader thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))

    async def _load(self, reference: str, expected_digest: str, weight_format: str) -> LoadedModel:
        loop = asyncio.get_running_loop()
        async with self.one_at_a_time:
            started = self._clock()
            candidate = await self.in_loader(self._loader.find, reference, weight_format)
            if expected_digest and candidate.digest != expected_digest:
                raise InvalidArtifact(f"{reference} has the digest {candidate.digest}, not {expected_digest}")
            handle = handle_of(candidate.digest, weight_format)
            known = self._models.get(handle)
            if known is not None:
                return known
            self.make_room(candidate.reference, candidate.memory_bytes)
            servable = await self.in_loader(self._loader.load, candidate)
            scheduler = Scheduler(servable.engine, queue_limit=self._queue_limit, observer=self._observer)
            now = self._clock()
            took = now - started
            model = LoadedModel(handle, reference, candidate.digest, took, servable, scheduler, now, weight_format)
            self._models[handle] = model
            self._driver.attach(handle, scheduler, lambda: loop.call_soon_threadsafe(self._forget, model))
            _log.info("model ready", handle=handle, reference=reference, seconds=round(model.load_seconds, 3))
            return model

    def make_room(self, reference: str, memory_bytes: int, *, grows: LoadedModel | None = None) -> None:
        """Evict idle models until there is room for so many bytes more: a model's, or those by which one grows.

        Raises `Exhausted` and `FailedPrecondition` as `load` does.
        """
        whole = memory_bytes + (grows.memory_bytes if grows else 0)
        if whole > self._memory_budget:
            needed, budget = whole >> 20, self._memory_budget >> 20
            raise FailedPrecondition(f"{reference} needs {needed} MiB; this inferencer may use {budget} MiB")
        idle = sorted((m for m in self._models.values() if not m.users), key=lambda model: model.last_used)
        leave: list[LoadedModel] = []
        while not self._fits(memory_bytes, 0 if grows else 1, leave):
            if not idle:
                raise Exhausted("there is no room: every loaded model is in use", retry_after_seconds=2.0)
            leave.append(idle.pop(0))
        for model in leave:
            _log.info("model evicted", handle=model.handle, reference=model.reference)
            self._remove(model)

    def _fits(self, memory_bytes: int, models: int, without: list[LoadedModel]) -> bool:
        staying = [model for model in self._models.values() if model not in without]
        memory = sum(model.memory_bytes for model in staying) + memory_bytes
        return len(staying) + models <= self._max_models and memory <= self._memory_budget

    def _remove(self, model: LoadedModel) -> None:
        self._driver.detach(model.handle)
        self._forget(model)

    def _forget(self, model: LoadedModel) -> None:
        if self._models.get(model.handle) is model:
            del self._models[model.handle]

    def _touched(self, model: LoadedModel) -> LoadedModel:
        model.last_used = self._clock()
        return model
