"""Real models for the engine: a random 1M-parameter export, and SmolLM2-135M where its package is installed."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from tunix_rt.artifacts import directory_digest
from tunix_rt.contract.weight_formats import INT8_V1
from tunix_rt.inferencer.app import serve_edges, serving_pool
from tunix_rt.inferencer.engine.interface import Engine
from tunix_rt.inferencer.engine.jax_engine import EngineShape, JaxEngine
from tunix_rt.inferencer.generation import Delta, Failure, GenerationRequest, Sampling
from tunix_rt.inferencer.model_loader import JaxModelLoader
from tunix_rt.inferencer.model_pool import LoadedModel, Servable
from tunix_rt.inferencer.scheduler import Scheduler
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.inferencer.text import Transcript
from tunix_rt.models.adapters import adapters_of, add_adapters
from tunix_rt.models.base_model import BaseModel
from tunix_rt.models.cached import Weights, decode_weights
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.export import export_adapter, export_hugging_face
from tunix_rt.models.lora_settings import LoraSettings
from tunix_rt.models.presets import PRESETS, train_tokenizer
from tunix_rt.models.tokenizer import Tokenizer
from tunix_rt.rpc.auth import static_authorizer

TOKEN = "a-token-for-this-test-0123456789"
WORDS = (
    "the",
    "sum",
    "of",
    "two",
    "and",
    "three",
    "is",
    "five",
    ";",
    "what",
    "makes",
    "seven",
    "times",
    "eight",
    "?",
    "naïve",
    "café",
    "größe",
    "12",
    "345",
    "+-*/=",
    "<answer>",
)


@nnx.jit
def _logits(decoder: Decoder, tokens: jax.Array, positions: jax.Array) -> jax.Array:
    return decoder(tokens, positions)


@dataclass(frozen=True)
class TinyModel:
    """A random model on disk, and its parts in memory."""

    directory: Path
    config: ModelConfig
    decoder: Decoder
    weights: Weights
    tokenizer: Tokenizer

    @property
    def reference(self) -> str:
        return self.directory.as_uri()

    def engine(
        self,
        *,
        slots: int = 8,
        capacity: int = 256,
        chunk: int = 32,
        steps: int = 8,
        prefix_tokens: int = 0,
        adapters: int = 4,
        weights: Weights | None = None,
    ) -> JaxEngine:
        shape = EngineShape(slots, capacity, chunk, steps, prefix_tokens, adapters)
        return JaxEngine(weights or self.weights, self.config, shape)

    @cached_property
    def int8(self) -> Weights:
        return decode_weights(self.decoder, weight_format=INT8_V1)

    def other_weights(self) -> Weights:
        return decode_weights(Decoder(self.config, rngs=nnx.Rngs(4)))

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """Greedy tokens by the training decoder, which has no cache: the whole sequence again for each token."""
        width = 256
        ids = list(prompt)
        for _ in range(count):
            tokens = jnp.asarray([ids + [0] * (width - len(ids))], jnp.int32)
            logits = _logits(self.decoder, tokens, jnp.arange(width, dtype=jnp.int32)[None])
            ids.append(int(jnp.argmax(logits[0, len(ids) - 1])))
        return ids[len(prompt) :]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    chance = random.Random(0)
    texts = [" ".join(chance.choices(WORDS, k=12)) for _ in range(200)]
    tokenizer = train_tokenizer(texts, PRESETS["tiny"].max_vocab_size)
    config = PRESETS["tiny"].config(tokenizer)
    decoder = Decoder(config, rngs=nnx.Rngs(3))
    directory = tmp_path_factory.mktemp("tiny-export")
    export_hugging_face(decoder, config, tokenizer, directory)
    return TinyModel(directory, config, decoder, decode_weights(decoder), tokenizer)


def load_tiny(directory: Path, *, prefix_tokens: int = 0, weight_format: str = "") -> Servable:
    """An export as the service loads it."""
    loader = JaxModelLoader(EngineShape(8, 256, 32, 8, prefix_tokens), cache_dir=directory)
    return loader.load(loader.find(directory.as_uri(), weight_format))


@pytest.fixture
def serve_tiny() -> Callable[..., Servable]:
    return load_tiny


# Names and settings of the adapters of the tiny model: of all layers and of some, up to the largest rank.
ADAPTERS = {
    "all": LoraSettings(4, 8.0, ("all-linear",)),
    "attention": LoraSettings(16, 8.0, ("q_proj", "v_proj", "o_proj")),
    "mlp": LoraSettings(3, 7.5, ("gate_proj", "down_proj")),
}


@pytest.fixture(scope="session")
def tiny_adapters(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters of the tiny model on disk, by name: strong enough to change what it says."""
    root = tmp_path_factory.mktemp("tiny-adapters")
    base = BaseModel(tiny.reference, directory_digest(tiny.directory)[0])
    for number, (name, settings) in enumerate(ADAPTERS.items()):
        decoder = nnx.clone(tiny.decoder)
        add_adapters(decoder, settings, seed=number)
        for index, adapter in enumerate(adapters_of(decoder).values()):
            key = jax.random.key(100 * number + index)
            adapter.b.set_value(0.1 * jax.random.normal(key, adapter.b.shape))
        export_adapter(decoder, settings, tiny.config, tiny.tokenizer, base, root / name)
    return {name: root / name for name in ADAPTERS}


@pytest.fixture(scope="session")
def require() -> Callable[[str], None]:
    """Skip without a package; fail instead where TUNIX_RT_REQUIRE_PARITY=1."""

    def check(module: str) -> None:
        if importlib.util.find_spec(module) is None:
            reason = f"{module} is not installed; run: make parity"
            if os.environ.get("TUNIX_RT_REQUIRE_PARITY") == "1":
                pytest.fail(reason)
            pytest.skip(reason)

    return check


def mixed_generations(count: int, vocabulary: int, *, seed: int = 1, max_prompt: int = 90) -> list[GenerationRequest]:
    """Ragged prompts; greedy, sampled and filtered in turn."""
    chance = random.Random(seed)
    kinds = [
        Sampling(),
        Sampling(temperature=1.0, seed=5),
        Sampling(temperature=0.8, top_k=20, seed=-9),
        Sampling(temperature=1.2, top_p=0.9, min_p=0.02, seed=1 << 40),
        Sampling(repetition_penalty=1.3),
        Sampling(temperature=0.9, repetition_penalty=1.1, seed=77),
    ]
    return [
        GenerationRequest(
            prompt=tuple(chance.randrange(vocabulary) for _ in range(chance.randint(1, max_prompt))),
            sampling=kinds[i % len(kinds)],
            max_new_tokens=chance.randint(1, 40),
            stop_token_ids=frozenset({chance.randrange(vocabulary)}),
            top_logprobs=(-1, 0, 3)[i % 3],
        )
        for i in range(count)
    ]


Answer = list[tuple[int, float, tuple[tuple[int, float], ...]]]


def run_all(
    engine: Engine,
    generations: list[GenerationRequest],
    tokenizer: Tokenizer,
    *,
    at_once: int,
    order: list[int] | None = None,
) -> list[Answer]:
    """Answers (token, logprob, runners-up), listed as ``generations`` are, sent in ``order``, ``at_once`` in flight."""
    scheduler = Scheduler(engine)
    answers: list[Answer] = [[] for _ in generations]
    done: set[int] = set()

    def sink_of(index: int) -> Callable[[Delta | Failure], None]:
        def sink(event: Delta | Failure) -> None:
            assert isinstance(event, Delta)
            tokens = (*event.prompt, *event.tokens)
            answers[index] += [(token.token_id, token.logprob, token.top) for token in tokens]
            if event.finish:
                done.add(index)

        return sink

    waiting = list(order if order is not None else range(len(generations)))
    sent = 0
    while len(done) < len(generations):
        while waiting and sent - len(done) < at_once:
            index = waiting.pop(0)
            scheduler.submit(generations[index], Transcript(tokenizer.detokenizer()), sink_of(index))
            sent += 1
        scheduler.tick()
    return answers


@pytest.fixture
def generations_of() -> Callable[..., list[GenerationRequest]]:
    return mixed_generations


@pytest.fixture
def answers_of() -> Callable[..., list[Answer]]:
    return run_all


@dataclass(frozen=True)
class ServiceHere:
    """The service in this process and loop, with one model; ``token`` opens both of its edges."""

    model: LoadedModel
    port: int
    http_port: int
    token: str


@asynccontextmanager
async def _serving_here(directory: Path, home: Path, shape: EngineShape, **settings: Any) -> AsyncIterator[ServiceHere]:
    options = InferencerSettings(
        home=home, listen="127.0.0.1:0", http_listen="127.0.0.1:0", grace_seconds=1, **settings
    )
    loop = asyncio.get_running_loop()
    stop, port, http_port = asyncio.Event(), loop.create_future(), loop.create_future()
    loader = JaxModelLoader(shape, cache_dir=home)
    async with serving_pool(loader, options) as (pool, adapters, driver), asyncio.TaskGroup() as group:
        edges = serve_edges(
            pool,
            adapters,
            driver,
            options,
            authorizer=static_authorizer(TOKEN, "on"),
            stop=stop,
            on_bound=port.set_result,
            on_http_bound=http_port.set_result,
        )
        group.create_task(edges)
        try:
            yield ServiceHere(await pool.load(directory.as_uri()), await port, await http_port, TOKEN)
        finally:
            stop.set()


@pytest.fixture
def serving_here() -> Callable[..., AbstractAsyncContextManager[ServiceHere]]:
    """Serves a directory as `serve` does, with what is inside to be looked at; of an engine of a given shape."""
    return _serving_here


@dataclass(frozen=True)
class InferencerProcess:
    """A running service; ``token`` opens both of its edges."""

    channel: grpc.Channel
    port: int
    http_port: int
    token: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)


@contextmanager
def _running(home: Path, **settings: str) -> Iterator[InferencerProcess]:
    holders = [socket.socket() for _ in range(2)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    port, http_port = (holder.getsockname()[1] for holder in holders)
    for holder in holders:
        holder.close()
    environment = {
        **os.environ,
        "TUNIX_RT_HOME": str(home),
        "TUNIX_RT_LISTEN": f"127.0.0.1:{port}",
        "TUNIX_RT_HTTP_LISTEN": f"127.0.0.1:{http_port}",
        "TUNIX_RT_TOKEN": TOKEN,
        **settings,
    }
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "tunix_rt.inferencer"], env=environment, stderr=log)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=120)
                yield InferencerProcess(channel, port, http_port, TOKEN)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, (home / "log").read_text()
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def running_inferencer() -> Callable[..., AbstractContextManager[InferencerProcess]]:
    """Starts the service as a process in a home; it must end on SIGTERM with status 0."""
    return _running
