"""Dead letters over the registry's RPCs, with a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from nats.js import JetStreamContext
from tests.contract.jobs.project_calls import Caller, Instance
from tests.fixtures.grpc_server import serving
from tests.fixtures.nats import NatsServer, running_nats
from tests.fixtures.trusting_verifier import TrustingVerifier

from tunix_rt.bus.connection import connect
from tunix_rt.bus.dead_letter_stream import DeadLetterStream
from tunix_rt.bus.keeper import Topology
from tunix_rt.bus.publish import Publisher
from tunix_rt.bus.topology import CMD_STREAM
from tunix_rt.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied, Transient
from tunix_rt.registry.access.audit import audit_guard
from tunix_rt.registry.app import register_servicers
from tunix_rt.registry.dead_letters.link import BusLink
from tunix_rt.v1 import access_pb2, common_pb2, dead_letters_pb2, dead_letters_pb2_grpc

TIMEOUT = 20
REASON = "InvalidInput: data: not JSON"


class Letters:
    """A registry with a connection to NATS, and what lies there."""

    def __init__(self, registry: Any, js: JetStreamContext, nats: NatsServer, port: int) -> None:
        self.registry, self.js, self.nats, self.port = registry, js, nats, port
        self.stub: Any = dead_letters_pb2_grpc.DeadLetterServiceStub(registry.channel(self.token, port))

    token = "bootstrap-token-of-the-tests"

    async def put(self, subject: str, body: bytes, **headers: str) -> int:
        """A letter as a worker writes it; its sequence."""
        given = {"tunix-dlq-reason": REASON, "tunix-dlq-consumer": "train-cpu", **headers}
        return (await self.js.publish(f"tunix.dlq.{subject}", body, headers=given)).seq

    async def of(self, job_id: str, subject: str = "tunix.cmd.train.cpu") -> int:
        """The letter of a job's command."""
        headers = {
            "ce-id": f"evt-{job_id}",
            "ce-type": "tunix_rt.command.train.v1",
            "Nats-Msg-Id": f"dead-{job_id}-{subject}",
        }
        return await self.put(subject, f'{{"jobId":"{job_id}"}}'.encode(), **headers)

    async def list(self, **fields: Any) -> Any:
        return await self.stub.ListDeadLetters(dead_letters_pb2.ListDeadLettersRequest(**fields), timeout=TIMEOUT)

    async def get(self, sequence: int) -> Any:
        return await self.stub.GetDeadLetter(dead_letters_pb2.GetDeadLetterRequest(sequence=sequence), timeout=TIMEOUT)

    async def replay(self, sequence: int, request_id: str = "") -> Any:
        request = dead_letters_pb2.ReplayDeadLetterRequest(
            request_id=request_id or self.registry.request_id(), sequence=sequence
        )
        return await self.stub.ReplayDeadLetter(request, timeout=TIMEOUT)

    async def drop(self, *sequences: int, request_id: str = "") -> int:
        request = dead_letters_pb2.DropDeadLettersRequest(
            request_id=request_id or self.registry.request_id(), sequences=sequences
        )
        return (await self.stub.DropDeadLetters(request, timeout=TIMEOUT)).dropped

    async def sequences(self) -> list[int]:
        return [letter.sequence for letter in (await self.list()).letters]

    async def commands(self) -> list[tuple[str, str]]:
        """Subject and event id of every command that waits."""
        state = (await self.js.stream_info(CMD_STREAM)).state
        sequences = range(state.first_seq, state.last_seq + 1) if state.messages else ()
        found = [await self.js.get_msg(CMD_STREAM, seq) for seq in sequences]
        return [(each.subject or "", (each.headers or {})["ce-id"]) for each in found]


@pytest.fixture
async def letters(registry: Any, tmp_path: Path) -> AsyncIterator[Letters]:
    with running_nats(tmp_path / "nats") as nats:
        client = await connect(nats, name="registry")
        js = client.jetstream()
        topology, bus = Topology(js), BusLink()
        await topology.ensure()

        def register(server: grpc.aio.Server) -> Sequence[str]:
            return register_servicers(server, registry.dependencies, registry.authorizer, TrustingVerifier(), bus=bus)

        guard = audit_guard(registry.audit)
        with bus.connected(DeadLetterStream(js, Publisher(js, topology=topology))):
            settings = registry.dependencies.settings
            async with serving(register, settings, authorizer=registry.authorizer, audit=guard) as port:
                yield Letters(registry, js, nats, port)
        await client.close()


async def test_letters_are_listed_in_pages_with_what_is_known_of_their_jobs(letters: Letters) -> None:
    run = await letters.registry.create_run()
    sequences = [await letters.of(run.id), await letters.put("tunix.cmd.evaluate", b"\xff{"), await letters.of("run-0")]
    first = await letters.list(page_size=2)
    second = await letters.list(page_size=2, page_token=first.next_page_token)
    assert second.next_page_token == ""
    found = [*first.letters, *second.letters]
    assert [letter.sequence for letter in found] == sequences
    assert [letter.job_id for letter in found] == [run.id, "", "run-0"]
    assert [letter.job_state for letter in found] == [common_pb2.JOB_STATE_QUEUED, 0, 0]
    known = found[0]
    assert (known.subject, known.reason, known.consumer) == ("tunix.cmd.train.cpu", REASON, "train-cpu")
    assert (known.event_id, known.type) == (f"evt-{run.id}", "tunix_rt.command.train.v1")
    assert known.size_bytes == len(f'{{"jobId":"{run.id}"}}')
    assert known.time.seconds > 0
    assert (known.body, dict(known.headers)) == ("", {})


async def test_a_letter_is_shown_whatever_its_sender_has_put_in(letters: Letters) -> None:
    hostile = b'\xff\x00\x1b[2J{"jobId":' + b"x" * 100_000
    sequence = await letters.put("tunix.cmd.train.cpu", hostile, **{"x-odd": "a\x1b]0;b", "ce-id": "c" * 300})
    shown = await letters.get(sequence)
    assert shown.body.startswith("\\xff\x00\x1b[2J{")
    assert len(shown.body) == 65_536 + len("\\xff") - 1
    assert shown.size_bytes == len(hostile)
    assert shown.headers["tunix-dlq-reason"] == REASON
    assert shown.event_id != "c" * 300


async def test_a_command_of_a_waiting_job_is_published_once_more_and_leaves(letters: Letters) -> None:
    run = await letters.registry.create_run(pool="gpu")
    sequence = await letters.of(run.id, "tunix.cmd.train.gpu")
    request_id = letters.registry.request_id()
    answer = await letters.replay(sequence, request_id)
    assert (answer.job_id, answer.sequence) == (run.id, sequence)
    assert await letters.replay(sequence, request_id) == answer
    assert await letters.commands() == [("tunix.cmd.train.gpu", f"evt-{run.id}")]
    assert await letters.sequences() == []


async def test_two_who_replay_at_once_publish_one_command(letters: Letters) -> None:
    run = await letters.registry.create_run()
    sequence = await letters.of(run.id)
    await asyncio.gather(*(letters.replay(sequence) for _ in range(8)), return_exceptions=True)
    assert await letters.commands() == [("tunix.cmd.train.cpu", f"evt-{run.id}")]


async def test_what_no_worker_could_carry_out_is_not_replayed_and_why_is_said(letters: Letters, refusal: Any) -> None:
    registry = letters.registry
    ended = await registry.create_run()
    await registry.cancel(ended.id)
    waiting = await registry.create_run()
    cases = {
        await letters.of(ended.id): f"tunix-rt runs retry {ended.id}",
        await letters.put("tunix.cmd.train.cpu", b"no json"): "names no job",
        await letters.of("run-0"): "names no job",
        await letters.of(waiting.id, "tunix.cmd.train.gpu"): "is no command of",
        await letters.of(waiting.id, "tunix.evt.run.created.x"): "is no command of",
    }
    for sequence, text in cases.items():
        refused = await refusal(letters.replay(sequence))
        assert refused.kind is FailedPrecondition
        assert text in refused.text
    assert await letters.commands() == []
    assert await letters.sequences() == list(cases)
    for sequence in (0, -1):
        assert (await refusal(letters.replay(sequence))).kind is InvalidInput
        assert (await refusal(letters.get(sequence))).kind is InvalidInput
    assert (await refusal(letters.replay(999))).kind is NotFound
    assert (await refusal(letters.get(2**62))).kind is NotFound


async def test_letters_are_dropped_for_good(letters: Letters, refusal: Any) -> None:
    sequences = [await letters.put("tunix.cmd.evaluate", b"%d" % number) for number in range(4)]
    request_id = letters.registry.request_id()
    assert await letters.drop(*sequences[:2], sequences[0], request_id=request_id) == 2
    assert await letters.drop(*sequences[:2], sequences[0], request_id=request_id) == 2
    assert await letters.drop(*sequences[:3]) == 1
    assert await letters.sequences() == sequences[3:]
    assert (await refusal(letters.drop())).fields == ["sequences"]
    assert (await refusal(letters.drop(*range(1, 1002)))).fields == ["sequences"]


async def test_who_reads_may_look_and_an_administrator_replays_and_drops(letters: Letters, refusal: Any) -> None:
    instance = Instance(letters.registry)
    await instance.member("ann", "", access_pb2.ROLE_EDITOR)
    made = await instance.admin.call("AccessService/CreateToken", principal="ann")
    run = await letters.registry.create_run()
    sequence = await letters.of(run.id)
    channel = letters.registry.channel(made.secret, letters.port)
    letters.stub = dead_letters_pb2_grpc.DeadLetterServiceStub(channel)
    assert (await letters.get(sequence)).job_id == run.id
    assert (await refusal(letters.replay(sequence))).kind is PermissionDenied
    assert (await refusal(letters.drop(sequence))).kind is PermissionDenied


async def test_who_works_in_a_project_sees_the_letters_of_its_jobs_alone(letters: Letters) -> None:
    instance = Instance(letters.registry)
    callers = {}
    for name, project in (("ann", "vision"), ("eve", "speech")):
        await instance.member(name, project, access_pb2.ROLE_EDITOR)
        made = await instance.admin.call("AccessService/CreateToken", principal=name)
        callers[name] = Caller(letters.registry.channel(made.secret, letters.port))
    dataset = await callers["ann"].call("DatasetService/BuildDataset", recipe="arith-v1", size=5)
    spec = {"base_model": "preset://tiny", "dataset_id": dataset.id}
    run = await callers["ann"].call("RunService/CreateRun", spec=spec)
    sequence = await letters.of(run.id)
    await letters.put("tunix.cmd.train.cpu", b"of nobody")
    seen = await callers["ann"].call("DeadLetterService/ListDeadLetters")
    assert [letter.sequence for letter in seen.letters] == [sequence]
    assert not (await callers["eve"].call("DeadLetterService/ListDeadLetters")).letters
    with pytest.raises(grpc.aio.AioRpcError, match=f"there is no dead letter {sequence}"):
        await callers["eve"].call("DeadLetterService/GetDeadLetter", sequence=sequence)
    # An administrator is of the whole instance.
    assert (await letters.replay(sequence)).job_id == run.id


async def test_without_nats_every_method_says_that_it_is_away(letters: Letters, registry: Any, refusal: Any) -> None:
    sequence = await letters.put("tunix.cmd.evaluate", b"")
    letters.nats.kill()
    while letters.js._nc.is_connected:
        await asyncio.sleep(0.01)
    calls = (letters.list(), letters.get(sequence), letters.replay(sequence), letters.drop(sequence))
    for refused in await asyncio.gather(*(refusal(call) for call in calls)):
        assert refused.kind is Transient
        assert "NATS, where dead letters lie, cannot be reached" in refused.text
    # The registry of the other tests was never connected.
    letters.stub = dead_letters_pb2_grpc.DeadLetterServiceStub(registry.channel(letters.token))
    assert (await refusal(letters.list())).kind is Transient
