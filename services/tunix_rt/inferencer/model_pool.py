"""The loaded models. Concurrent loads coalesce, memory is bounded, and the least recently used idle model is evicted.

Runs on the event loop; one loader thread reads files and compiles. A model in use is never evicted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from tunix_rt.errors import Exhausted, FailedPrecondition, InvalidArtifact, NotFound, Violations
from tunix_rt.inferencer.driver import Driver
from tunix_rt.inferencer.engine.interface import Engine
from tunix_rt.inferencer.holders import Holders
from tunix_rt.inferencer.loaded_adapter import LoadedAdapter
from tunix_rt.inferencer.loader_thread import LoaderThread
from tunix_rt.inferencer.observer import IGNORE, Observer
from tunix_rt.inferencer.scheduler import Scheduler
from tunix_rt.inferencer.shared_loads import SharedLoads
from tunix_rt.inferencer.text import Tokenizer
from tunix_rt.inferencer.text_threads import TextThreads
from tunix_rt.models.vocabulary import unknown_token
from tunix_rt.observability.logs import get_logger

_log = get_logger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")
# How long a load in progress may hold up the end of the process.
_CLOSE_SECONDS = 30.0


@dataclass(frozen=True)
class ResolvedModel:
    """A model that was located but not read. ``memory_bytes`` is the memory it needs once loaded."""

    reference: str
    digest: str
    memory_bytes: int
    weight_format: str = ""


@dataclass(frozen=True)
class Servable:
    """A warmed-up engine with its tokenizer and metadata. ``warnings``: what the user should know of its files."""

    engine: Engine
    tokenizer: Tokenizer
    family: str
    parameter_count: int
    vocabulary: int
    eos_ids: frozenset[int]
    memory_bytes: int
    threads: TextThreads = field(default_factory=TextThreads)
    warnings: Sequence[str] = ()

    def ends(self, template: str = "") -> frozenset[int]:
        """The tokens that end an answer, to a conversation by ``template`` if it is not the model's own."""
        return self.eos_ids | frozenset({self.tokenizer.end_of_turn(template)} if template else ())

    def check_ids(self, ids: Iterable[int], path: str, bad: Violations) -> bool:
        """Record a violation at ``path`` unless all ``ids`` are token ids of this model."""
        known = all(0 <= token < self.vocabulary for token in ids)
        return bad.check(known, path, f"must be token ids of this model, 0..{self.vocabulary - 1}")

    def check_size(self, text: Iterable[str], path: str, bad: Violations) -> bool:
        """Record a violation at ``path`` if ``text`` is too long to fit, without tokenising it."""
        capacity = self.engine.capacity
        size, limit = sum(map(_utf8_bytes, text)), self.tokenizer.text_limit(capacity)
        too_long = f"has {size} bytes; this model takes at most {capacity - 1} tokens, which is less than {limit} bytes"
        return bad.check(size <= limit, path, too_long)

    def check_prompt(
        self, prompt: Sequence[int], path: str, bad: Violations, *, answered: bool = True, verb: str = "has"
    ) -> None:
        """Record a violation at ``path`` unless the model has every token of ``prompt`` and it fits into a slot, with
        one more token if it is ``answered``.

        ``verb`` agrees with ``path``: "have" for a plural.
        """
        unknown = unknown_token(prompt, self.vocabulary, self.tokenizer.token_text)
        bad.check(unknown is None, path, f"{verb} a token that is not usable: {unknown}")
        limit = self.engine.capacity - answered
        bad.check(len(prompt) > 0, path, f"{verb} no tokens")
        bad.check(len(prompt) <= limit, path, f"{verb} {len(prompt)} tokens; this model takes at most {limit}")

    def close(self) -> None:
        """Release what reads text."""
        self.tokenizer.close()
        self.threads.close()


class Loader(Protocol):
    """Blocking methods, called in the pool's loader thread, one at a time."""

    def find(self, reference: str, weight_format: str) -> ResolvedModel:
        """Raises `InvalidInput`, `NotFound`, `InvalidArtifact` or `Transient`."""
        ...

    def load(self, resolved: ResolvedModel) -> Servable:
        """Read, verify and compile. Raises `InvalidArtifact` and `InvalidInput`."""
        ...


@dataclass(eq=False)
class LoadedModel:
    """A model that is ready to serve, in one weight format."""

    handle: str
    reference: str
    digest: str
    load_seconds: float
    servable: Servable
    scheduler: Scheduler
    last_used: float
    weight_format: str = ""
    users: int = 0
    holders: Holders = field(default_factory=Holders)
    # Seconds since the epoch.
    loaded_at: int = field(default_factory=lambda: int(time.time()))
    # Maintained by the adapter pool: its adapters by handle, and the bytes of all of them.
    adapters: dict[str, LoadedAdapter] = field(default_factory=dict)
    adapter_bytes: int = 0

    @property
    def memory_bytes(self) -> int:
        return self.servable.memory_bytes + self.adapter_bytes

    def close(self) -> None:
        """Release what reads text for it and for its adapters."""
        self.servable.close()
        for adapter in self.adapters.values():
            adapter.close()


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def handle_of(digest: str, weight_format: str = "") -> str:
    """A model's handle, derived from its content and weight format: stable across restarts."""
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
        load_seconds: float = 1800.0,
        observer: Observer = IGNORE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``memory_budget``: bytes for weights, caches and slot state of all models together. ``load_seconds``: a load
        that takes longer is given up."""
        self._loader = loader
        self._driver = driver
        self._max_models = max_models
        self._memory_budget = memory_budget
        self._queue_limit = queue_limit
        self._load_seconds = load_seconds
        self._observer = observer
        self._clock = clock
        self._models: dict[str, LoadedModel] = {}
        self._loads: SharedLoads[LoadedModel] = SharedLoads(
            lambda key, error: _log.warning("model not loaded", model=key, error=str(error))
        )
        # `loading` holds it until the loaded model or adapter is registered.
        self._load_lock = asyncio.Lock()
        self._thread = LoaderThread()

    async def load(self, reference: str, expected_digest: str = "", weight_format: str = "") -> LoadedModel:
        """Load the model ``reference`` in a weight format. Cancelling one caller does not cancel the load.

        Raises `InvalidArtifact` when the content does not have ``expected_digest``, `Exhausted` when every loaded model
        is in use and none can be evicted, `FailedPrecondition` when it could never fit, and what `Loader` raises.
        """
        if expected_digest:
            known = self.find(handle_of(expected_digest, weight_format))
            if known is not None and known.digest == expected_digest:
                return self._touched(known)
        key = (reference, expected_digest, weight_format)
        model = self._touched(await self._loads.result(key, lambda: self._load(*key)))
        model.holders.add_caller(reference)
        return model

    @contextmanager
    def using(self, handle: str) -> Iterator[LoadedModel]:
        """Use a model; it is not evicted meanwhile. Raises `NotFound` for a handle that is not loaded."""
        model = self.find(handle)
        if model is None:
            raise NotFound(f"model {handle!r} is not loaded here; call LoadModel first")
        model.users += 1
        try:
            yield self._touched(model)
        finally:
            model.users -= 1
            self._touched(model)

    def find(self, handle: str) -> LoadedModel | None:
        """The model, if the caller's project has loaded it."""
        model = self._models.get(handle)
        return model if model is not None and model.holders.include_caller() else None

    def models(self) -> list[LoadedModel]:
        """Models that the caller's project has loaded, most recently used first."""
        own = [model for model in self._models.values() if model.holders.include_caller()]
        return sorted(own, key=lambda model: -model.last_used)

    def unload(self, handle: str) -> None:
        """Remove a model, unless another project has loaded it, too. Raises `NotFound`, and `FailedPrecondition` while
        it is in use."""
        model = self.find(handle)
        if model is None:
            raise NotFound(f"model {handle!r} is not loaded here")
        if model.users:
            raise FailedPrecondition(f"model {handle!r} is in use by {model.users} requests")
        if model.holders.remove_caller():
            self._remove(model)

    async def close(self) -> None:
        """Cancel loads that have not started, and wait for the running one."""
        await self._loads.cancel()
        await asyncio.to_thread(self._thread.join, _CLOSE_SECONDS)
        for model in self._models.values():
            model.close()

    async def run_in_loader(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run ``work`` in the loader thread."""
        return await self._thread.run(partial(work, *args, **kwargs))

    @asynccontextmanager
    async def loading(self, reference: str) -> AsyncIterator[None]:
        """The load of ``reference``, alone. Raises `FailedPrecondition` when it takes too long; the next one can begin
        then."""
        async with self._load_lock:
            try:
                async with asyncio.timeout(self._load_seconds):
                    yield
            except TimeoutError as error:
                limit = f"{self._load_seconds:g} s (TUNIX_RT_INFERENCER_LOAD_SECONDS)"
                raise FailedPrecondition(f"{reference} was not loaded within {limit}") from error

    async def _load(self, reference: str, expected_digest: str, weight_format: str) -> LoadedModel:
        loop = asyncio.get_running_loop()
        async with self.loading(reference):
            started = self._clock()
            resolved = await self.run_in_loader(self._loader.find, reference, weight_format)
            if expected_digest and resolved.digest != expected_digest:
                raise InvalidArtifact(f"{reference} has the digest {resolved.digest}, not {expected_digest}")
            handle = handle_of(resolved.digest, weight_format)
            known = self._models.get(handle)
            if known is not None:
                return known
            self.make_room(resolved.reference, resolved.memory_bytes)
            servable = await self.run_in_loader(self._loader.load, resolved)
            scheduler = Scheduler(servable.engine, queue_limit=self._queue_limit, observer=self._observer)
            now = self._clock()
            took = now - started
            model = LoadedModel(handle, reference, resolved.digest, took, servable, scheduler, now, weight_format)
            self._models[handle] = model
            self._driver.attach(handle, scheduler, lambda: loop.call_soon_threadsafe(self._forget, model))
            _log.info("model ready", handle=handle, reference=reference, seconds=round(model.load_seconds, 3))
            return model

    def make_room(self, reference: str, memory_bytes: int, *, grows: LoadedModel | None = None) -> None:
        """Evict idle models until ``memory_bytes`` more fit, for a new model or for a model that ``grows``.

        Raises `Exhausted` and `FailedPrecondition` as `load` does.
        """
        whole = memory_bytes + (grows.memory_bytes if grows else 0)
        if whole > self._memory_budget:
            needed, budget = whole >> 20, self._memory_budget >> 20
            raise FailedPrecondition(f"{reference} needs {needed} MiB; this inferencer may use {budget} MiB")
        idle = sorted((m for m in self._models.values() if not m.users), key=lambda model: model.last_used)
        evicted: list[LoadedModel] = []
        while not self._fits(memory_bytes, 0 if grows else 1, evicted):
            if not idle:
                raise Exhausted("no model can be evicted: every loaded model is in use", retry_after_seconds=2.0)
            evicted.append(idle.pop(0))
        for model in evicted:
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
            model.close()

    def _touched(self, model: LoadedModel) -> LoadedModel:
        model.last_used = self._clock()
        return model
