"""What a permitted but hostile NATS user can forge harms no run, through a real registry and a real nats-server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client
from pydantic import SecretStr
from tests.fixtures.guarded_nats import As

from tunix_rt.bus.connection import connect
from tunix_rt.bus.consume import consume
from tunix_rt.bus.topology import train_consumer
from tunix_rt.client import Dataset, JobState, Run, TunixClient
from tunix_rt.errors import FailedPrecondition
from tunix_rt.local import LocalPlatform
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.token_file import TokenFile
from tunix_rt.v1.jobs_pb2 import JOB_KIND_RUN, RunPayload
from tunix_rt.worker.claim import Claim
from tunix_rt.worker.grpc_jobs import GrpcJobs
from tunix_rt.worker.handler import JobHandler
from tunix_rt.worker.jobs import Ending

DEAD = "tunix.dlq.tunix.cmd.train.cpu"
COMMANDS = "tunix.cmd.train.cpu"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    with LocalPlatform(tmp_path_factory.mktemp("home"), ports="free", service_counts={"registry": 1}) as running:
        yield running


@pytest.fixture(scope="module")
def client(platform: LocalPlatform) -> Iterator[TunixClient]:
    with TunixClient(home=platform.home) as connected:
        yield connected


@pytest.fixture(scope="module")
def dataset(client: TunixClient) -> Dataset:
    return client.datasets.build("arith-v1", size=20, seed=1)


def queued_run(client: TunixClient, dataset: Dataset) -> Run:
    return client.runs.create(base_model="preset://tiny", dataset_id=dataset.id)


@asynccontextmanager
async def connected(platform: LocalPlatform, user: str) -> AsyncIterator[Client]:
    seed = SecretStr(platform.nats_seed_path(user).read_text())
    bus = await connect(As(platform.nats_url, nats_seed=seed), name="attacker")
    try:
        yield bus
    finally:
        await bus.close()


async def dead_letters_read(bus: Client) -> None:
    """Every dead letter so far was handled by the registry."""
    async with asyncio.timeout(20):
        while True:
            found = await bus.jetstream().consumer_info("TUNIX_DLQ", "dead-commands")
            if found.num_pending == found.num_ack_pending == 0:
                return
            await asyncio.sleep(0.05)


async def test_a_forged_dead_letter_ends_no_run(platform: LocalPlatform, client: TunixClient, dataset: Dataset) -> None:
    run = queued_run(client, dataset)
    forged = json.dumps({"jobId": run.id}).encode()
    async with connected(platform, "trainer") as trainer, connected(platform, "registry") as operator:
        await trainer.jetstream().publish(DEAD, forged)
        await trainer.jetstream().publish(DEAD, forged, headers={"ce-id": "evt-01HZZZZZZZZZZZZZZZZZZZZZZZ"})
        # Even of a real command: a fact's id is no command's, and an evaluation's subject is not a run's.
        (fact,) = [event for event in client.events.list() if event.resource_id == run.id]
        await trainer.jetstream().publish(DEAD, forged, headers={"ce-id": fact.id})
        await dead_letters_read(operator)
    assert client.runs.get(run.id).state is JobState.QUEUED
    client.runs.cancel(run.id)


async def test_a_genuine_dead_letter_fails_the_run_and_an_outdated_one_does_not(
    platform: LocalPlatform, client: TunixClient, dataset: Dataset
) -> None:
    run = queued_run(client, dataset)
    async with connected(platform, "trainer") as trainer, connected(platform, "registry") as operator:
        subscription = await trainer.jetstream().pull_subscribe_bind(consumer="train-cpu", stream="TUNIX_CMD")
        async with asyncio.timeout(20):
            while True:
                (message,) = await subscription.fetch(1, timeout=15)
                await message.ack_sync(timeout=5)
                if json.loads(message.data) == {"jobId": run.id}:
                    break
        headers = {"ce-id": (message.headers or {})["ce-id"]}
        await trainer.jetstream().publish(DEAD, message.data, headers=headers)
        async with asyncio.timeout(30):
            while (ended := client.runs.get(run.id)).state is JobState.QUEUED:
                await asyncio.sleep(0.1)
        assert (ended.state, ended.reason) == (JobState.FAILED, "UNDELIVERABLE")
        assert f"`tunix-rt dlq list` says why, and `tunix-rt runs retry {run.id}` has it tried again" in ended.message
        (letter,) = [each for each in client.dead_letters.list() if each.event_id == headers["ce-id"]]
        assert (letter.subject, letter.job_id) == ("tunix.cmd.train.cpu", run.id)
        with pytest.raises(FailedPrecondition, match=f"tunix-rt runs retry {run.id}"):
            client.dead_letters.replay(letter.sequence)
        assert client.runs.retry(run.id).state is JobState.QUEUED
        assert client.dead_letters.replay(letter.sequence).job_id == run.id
        assert letter.sequence not in [each.sequence for each in client.dead_letters.list()]
        client.runs.cancel(run.id)
        again = queued_run(client, dataset)
        await trainer.jetstream().publish(DEAD, json.dumps({"jobId": again.id}).encode(), headers=headers)
        await dead_letters_read(operator)
    assert client.runs.get(again.id).state is JobState.QUEUED
    client.runs.cancel(again.id)


async def test_a_forged_fact_changes_nothing_that_the_registry_says(
    platform: LocalPlatform, client: TunixClient, dataset: Dataset
) -> None:
    """Even by the registry's own user: what happened is in its tables, and facts only tell of it."""
    run = queued_run(client, dataset)
    before = [event.id for event in client.events.list()]
    async with connected(platform, "registry") as operator:
        body = json.dumps({"run": {"id": run.id, "state": "JOB_STATE_SUCCEEDED"}}).encode()
        await operator.jetstream().publish(f"tunix.evt.run.succeeded.{run.id}", body)
    assert client.runs.get(run.id).state is JobState.QUEUED
    assert [event.id for event in client.events.list()] == before
    client.runs.cancel(run.id)


@pytest.mark.parametrize("known", [False, True], ids=["unknown ids", "the id of a run that has ended"])
async def test_a_real_command_behind_ten_thousand_forged_ones_is_carried_out_within_30_seconds(
    platform: LocalPlatform, client: TunixClient, dataset: Dataset, known: bool
) -> None:
    ended = queued_run(client, dataset)
    client.runs.cancel(ended.id)
    claimed = asyncio.Event()

    async def carry_out(claim: Claim[RunPayload], _stop: asyncio.Event) -> Ending:
        claimed.set()
        return Ending("FAILED", "INTERNAL", "a test, not a trainer")

    stop = asyncio.Event()
    async with (
        connected(platform, "trainer") as trainer,
        open_channel(platform.addresses["registry"], token=TokenFile(platform.home / "tokens" / "trainer")) as channel,
    ):
        for number in range(10_000):
            body = {"jobId": ended.id if known else f"run-{number:026d}"}
            await trainer.publish(COMMANDS, json.dumps(body).encode(), headers={"Nats-Msg-Id": f"{known}-{number}"})
        await trainer.flush(timeout=60)
        started = time.monotonic()
        run = await asyncio.to_thread(queued_run, client, dataset)
        handler = JobHandler(GrpcJobs(channel, JOB_KIND_RUN, "w", pool="cpu"), carry_out, stop, heartbeat_seconds=2)
        work = asyncio.create_task(consume(trainer.jetstream(), train_consumer("cpu"), handler, workers=1, stop=stop))
        try:
            await asyncio.wait_for(claimed.wait(), 60)
            seconds = time.monotonic() - started
        finally:
            stop.set()
            await asyncio.wait_for(work, 20)
    assert seconds < 30
    print(f"claimed after {seconds:.1f} s")
    async with asyncio.timeout(30):
        while (await asyncio.to_thread(client.runs.get, run.id)).state is not JobState.FAILED:
            await asyncio.sleep(0.2)
