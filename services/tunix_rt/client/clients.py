"""`TunixClient` and `AsyncTunixClient`: the same methods, blocking and awaited."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from tunix_rt.client.binding import Async, Mode, Runner, Sync
from tunix_rt.client.connection import Connection, discover
from tunix_rt.client.resources.access import Access
from tunix_rt.client.resources.datasets import Datasets
from tunix_rt.client.resources.dead_letters import DeadLetters
from tunix_rt.client.resources.evalsets import EvalSets
from tunix_rt.client.resources.evaluations import Evaluations
from tunix_rt.client.resources.events import Events
from tunix_rt.client.resources.gates import Baselines, Gate
from tunix_rt.client.resources.inference import Generation, Inference
from tunix_rt.client.resources.jobs import Pools
from tunix_rt.client.resources.models import Models
from tunix_rt.client.resources.retention import Retention
from tunix_rt.client.resources.runs import Runs
from tunix_rt.client.resources.scores import Scores
from tunix_rt.client.resources.sweeps import Sweeps
from tunix_rt.client.runners import AsyncRunner, BlockingRunner

# How long a peer may be unavailable (restarting) before a call fails.
OUTAGE_SECONDS = 30.0


class _Surface(Scores[Mode], Generation[Mode]):
    """Every group of methods, over one runner."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.access: Access[Mode] = Access(runner)
        self.datasets: Datasets[Mode] = Datasets(runner)
        self.evalsets: EvalSets[Mode] = EvalSets(runner)
        self.runs: Runs[Mode] = Runs(runner)
        self.evaluations: Evaluations[Mode] = Evaluations(runner)
        self.models: Models[Mode] = Models(runner)
        self.baselines: Baselines[Mode] = Baselines(runner)
        self.gate: Gate[Mode] = Gate(runner)
        self.sweeps: Sweeps[Mode] = Sweeps(runner)
        self.events: Events[Mode] = Events(runner)
        self.pools: Pools[Mode] = Pools(runner)
        self.dead_letters: DeadLetters[Mode] = DeadLetters(runner)
        self.retention: Retention[Mode] = Retention(runner)
        self.inference: Inference[Mode] = Inference(runner)


class TunixClient(_Surface[Sync]):
    """The blocking client.

    Addresses and token come from the arguments, else from TUNIX_RT_REGISTRY_ADDRESS, TUNIX_RT_INFERENCER_ADDRESS,
    TUNIX_RT_TUNER_ADDRESS and TUNIX_RT_TOKEN, else from the local platform in ``home`` (TUNIX_RT_HOME). ``project``
    (TUNIX_RT_PROJECT) is for who may see all of them. Nothing is connected before the first call. Failed calls raise
    the errors of `tunix_rt.errors`; calls to a peer that is away are repeated, with the same request_id, for
    ``outage_seconds``.
    """

    def __init__(
        self,
        address: str | None = None,
        token: str | None = None,
        *,
        inferencer_address: str | None = None,
        tuner_address: str | None = None,
        project: str | None = None,
        home: Path | str | None = None,
        outage_seconds: float = OUTAGE_SECONDS,
    ) -> None:
        self.connection: Connection = discover(
            address,
            token,
            inferencer_address=inferencer_address,
            tuner_address=tuner_address,
            project=project,
            home=home,
        )
        self._blocking = BlockingRunner(self.connection, outage_seconds)
        super().__init__(self._blocking)

    def close(self) -> None:
        """Close the channels."""
        self._blocking.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncTunixClient(_Surface[Async]):
    """The asyncio client; arguments and errors as of `TunixClient`. Belongs to one event loop."""

    def __init__(
        self,
        address: str | None = None,
        token: str | None = None,
        *,
        inferencer_address: str | None = None,
        tuner_address: str | None = None,
        project: str | None = None,
        home: Path | str | None = None,
        outage_seconds: float = OUTAGE_SECONDS,
    ) -> None:
        self.connection: Connection = discover(
            address,
            token,
            inferencer_address=inferencer_address,
            tuner_address=tuner_address,
            project=project,
            home=home,
        )
        self._asynchronous = AsyncRunner(self.connection, outage_seconds)
        super().__init__(self._asynchronous)

    async def close(self) -> None:
        """Close the channels."""
        await self._asynchronous.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
