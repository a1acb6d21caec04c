"""Messages as values, and that every class says of its message what the contract says."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor

from tunix_rt.client import JobState, Reason, Run, TunixClient, resources
from tunix_rt.client.records import Open, Record, record
from tunix_rt.client.resources.events import Event
from tunix_rt.client.resources.jobs import Job
from tunix_rt.client.resources.sweeps import Sweep, Trial
from tunix_rt.contract import enums
from tunix_rt.v1 import common_pb2, datasets_pb2, events_pb2, options_pb2, runs_pb2, sweeps_pb2

for _module in pkgutil.iter_modules(resources.__path__):
    importlib.import_module(f"tunix_rt.client.resources.{_module.name}")

_SCALARS = {
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_DOUBLE: "float",
    FieldDescriptor.CPPTYPE_INT32: "int",
    FieldDescriptor.CPPTYPE_INT64: "int",
    FieldDescriptor.CPPTYPE_STRING: "str",
}


def a_run(**fields: Any) -> Run[Any]:
    return Run(runs_pb2.Run(**fields))


def test_states_are_names_and_times_datetimes() -> None:
    run = a_run(id="run-1", state=common_pb2.JOB_STATE_FAILED, reason=common_pb2.REASON_DIVERGED)
    run.proto.create_time.FromJsonString("2026-05-03T10:00:00.25Z")
    assert run.state is JobState.FAILED
    assert run.reason is Reason.DIVERGED
    assert (f"{run.state}", run.has_ended, run.succeeded) == ("FAILED", True, False)
    assert run.create_time == datetime(2026, 5, 3, 10, 0, 0, 250_000, tzinfo=UTC)
    assert run.end_time is None


def test_unset_is_none_where_the_contract_knows_presence_and_the_default_elsewhere() -> None:
    run = a_run()
    assert (run.model_id, run.evaluation_ids, run.tags, run.progress.done) == ("", (), {}, 0)
    assert not run.reason
    assert run.spec.hyperparameters.max_steps is None
    assert run.spec.hyperparameters.lora is None
    assert run.spec.initial_checkpoint is None
    trial = Trial[Any](sweeps_pb2.Trial(objective=0.0))
    assert (trial.objective, trial.ci_low, trial.origin) == (0.0, None, None)


def test_an_event_reads_as_its_resource_does() -> None:
    run = runs_pb2.Run(id="run-1", state=common_pb2.JOB_STATE_RUNNING, progress=common_pb2.Progress(done=3, total=9))
    run.create_time.FromJsonString("2026-05-03T10:00:00Z")
    body = json_format.MessageToDict(events_pb2.RunEvent(run=run)) | {"fieldOfALaterRelease": 1}
    event = Event(events_pb2.Event(type="tunix_rt.run.running.v1", sequence=7))
    json_format.ParseDict(body, event.proto.data)
    assert event.data == {"run": Run(run).to_dict()}
    assert event.to_dict()["data"]["run"]["progress"] == {"done": 3, "total": 9, "unit": "", "stage": ""}
    assert (event.to_dict()["data"]["run"]["state"], event.to_dict()["sequence"]) == ("RUNNING", 7)


def test_an_event_of_a_later_release_keeps_its_body() -> None:
    event = Event(events_pb2.Event(type="tunix_rt.novelty.made.v1"))
    event.proto.data.update({"noveltyId": "n-1"})
    assert event.data == {"noveltyId": "n-1"}


def test_structs_and_maps_are_dicts_and_repeated_fields_tuples() -> None:
    trial = Trial[Any](sweeps_pb2.Trial(observed=[2, 0]))
    trial.proto.parameters.update({"seed": 3, "learning_rate": 0.5, "packing": True, "names": ["a"]})
    assert trial.parameters == {"seed": 3, "learning_rate": 0.5, "packing": True, "names": ["a"]}
    assert isinstance(trial.parameters["seed"], int)
    assert trial.observed == (2, 0)
    assert a_run(last_metrics={"loss": 0.5}).last_metrics == {"loss": 0.5}


def test_messages_without_a_class_of_their_own_are_read_likewise() -> None:
    spec = sweeps_pb2.SweepSpec(objective=sweeps_pb2.Objective(metric="loss", mode=sweeps_pb2.OBJECTIVE_MODE_MIN))
    sweep = Sweep[Any](sweeps_pb2.Sweep(spec=spec))
    assert sweep.spec.objective.mode is enums.ObjectiveMode.MIN
    assert repr(sweep.spec.objective) == "Objective(metric='loss', mode=ObjectiveMode.MIN)"
    with pytest.raises(AttributeError, match="metrik"):
        _ = sweep.spec.objective.metrik


def test_a_state_that_this_version_does_not_know_is_unspecified() -> None:
    run = a_run()
    run.proto.MergeFromString(b"\x20\x63")  # field 4 (state): 99
    assert run.state is JobState.UNSPECIFIED
    assert not run.has_ended


def test_repr_shows_what_identifies_it() -> None:
    run = a_run(id="run-1", display_name="A", state=common_pb2.JOB_STATE_RUNNING, created_by="me")
    assert repr(run) == "Run(id='run-1', display_name='A', state=JobState.RUNNING)"
    assert repr(a_run(progress=common_pb2.Progress(done=3, unit="steps")).progress) == "Progress(done=3, unit='steps')"


def test_records_are_equal_by_content_and_read_only() -> None:
    assert a_run(id="run-1") == a_run(id="run-1")
    assert a_run(id="run-1") != a_run(id="run-2")
    assert a_run(id="run-1") != runs_pb2.Run(id="run-1")
    run = a_run(id="run-1")
    with pytest.raises(AttributeError, match="read-only"):
        run.id = "run-2"  # type: ignore[misc, unused-ignore]


def test_a_record_that_no_client_read_has_no_methods() -> None:
    with pytest.raises(TypeError, match="was not read with a client"):
        a_run(id="run-1").refresh()


def test_its_document_is_that_of_the_contract() -> None:
    found = a_run(id="run-1", etag="r1", progress=common_pb2.Progress(done=2**40), state=2).to_dict()
    assert (found["id"], found["etag"], found["state"], found["reason"]) == ("run-1", "r1", "RUNNING", "UNSPECIFIED")
    assert found["progress"]["done"] == 2**40


def test_what_is_read_with_a_client_goes_on_with_it(server: Any, use: Any) -> None:
    states = iter([common_pb2.JOB_STATE_QUEUED, common_pb2.JOB_STATE_RUNNING])
    server.handlers["GetRun"] = lambda request, context: runs_pb2.Run(id=request.id, state=next(states), etag="r5")
    server.handlers["UpdateRun"] = lambda request, context: runs_pb2.Run(display_name=request.run.etag)
    get = "run-1"
    assert use.then(lambda client: client.runs.get(get), lambda run: run.refresh()).state is JobState.RUNNING
    states = iter([common_pb2.JOB_STATE_QUEUED])
    updated = use.then(lambda client: client.runs.get(get), lambda run: run.update(display_name="B"))
    assert updated.display_name == "r5"
    assert [request.id for request in server.requests[:3]] == [get, get, get]
    assert (server.requests[3].run.display_name, list(server.requests[3].update_mask.paths)) == ("B", ["display_name"])


def test_a_list_of_what_belongs_to_a_job_is_read_from_the_job(server: Any) -> None:
    trials = [sweeps_pb2.Trial(number=n, run_id=f"run-{n}") for n in range(2)]
    server.handlers["GetSweep"] = lambda request, context: sweeps_pb2.Sweep(id=request.id)
    server.handlers["ListTrials"] = lambda request, context: sweeps_pb2.ListTrialsResponse(trials=trials)
    server.handlers["GetRun"] = lambda request, context: runs_pb2.Run(id=request.id)
    with TunixClient(server.address) as client:
        assert [trial.run().id for trial in client.sweeps.get("sweep-1").trials()] == ["run-0", "run-1"]
    assert server.requests[1].sweep_id == "sweep-1"


def classes(of: type[Record] = Record) -> Iterator[type[Record]]:
    for kind in of.__subclasses__():
        if kind.__module__.startswith("tunix_rt.client.resources") and kind is not Job:
            yield kind
        yield from classes(kind)


def declared(kind: type[Record]) -> dict[str, str]:
    hints: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("tunix_rt.client") and base not in (Record, Open):
            hints |= {name: str(hint) for name, hint in vars(base).get("__annotations__", {}).items()}
            # A field that the class reads in its own way.
            own = {name: part.fget for name, part in vars(base).items() if isinstance(part, property)}
            fields = {
                field.name
                for message in MESSAGES
                if type(record(message)) is kind
                for field in message.DESCRIPTOR.fields
            }
            hints |= {
                name: read.__annotations__["return"]
                for name, read in own.items()
                if name in fields and name not in hints
            }
    hints.pop("_runner", None)
    return {name: hint.replace("[Mode]", "").replace("enums.", "") for name, hint in hints.items()}


def fits(field: FieldDescriptor, hint: str) -> bool:
    """Whether ``hint`` says what a field holds."""
    message: Any = field.message_type
    if message is not None and message.GetOptions().map_entry:
        key, value = message.fields
        return hint == f"dict[{_SCALARS[key.cpp_type]}, {_SCALARS[value.cpp_type]}]"
    if field.is_repeated:
        return any(hint == f"tuple[{one}, ...]" for one in names_of(field))
    optional = field.has_presence and message is None
    return any(
        hint in ((f"{one} | None",) if optional else (one, *[f"{one} | None"] * bool(message)))
        for one in names_of(field)
    )


def names_of(field: FieldDescriptor) -> tuple[str, ...]:
    message: Any = field.message_type
    if field.enum_type is not None:
        return (field.enum_type.name,)
    if message is None:
        return (_SCALARS[field.cpp_type],)
    special = {"google.protobuf.Timestamp": "datetime", "google.protobuf.Struct": "dict[str, Any]"}
    if message.full_name in special:
        return (special[message.full_name],)
    kind = type(record(message._concrete_class()))
    return ("Open",) if kind.__module__ == "tunix_rt.client.records" else (kind.__name__,)


@pytest.mark.parametrize(
    "kind", [each for each in classes() if not issubclass(each, Open)], ids=lambda kind: kind.__name__
)
def test_a_record_declares_every_field_of_its_message_with_its_type(kind: type[Record]) -> None:
    message = next(known for known in MESSAGES if type(record(known)) is kind)
    fields: dict[str, FieldDescriptor] = {field.name: field for field in message.DESCRIPTOR.fields}
    hints = declared(kind)
    assert set(hints) == set(fields)
    assert [f"{name}: {hint}" for name, hint in hints.items() if not fits(fields[name], hint)] == []


def _messages() -> Iterator[Any]:
    import tunix_rt.v1

    for module in pkgutil.iter_modules(tunix_rt.v1.__path__):
        if module.name.endswith("_pb2"):
            loaded = importlib.import_module(f"tunix_rt.v1.{module.name}")
            yield from (getattr(loaded, name)() for name in loaded.DESCRIPTOR.message_types_by_name)


MESSAGES = list(_messages())


@pytest.mark.parametrize("kind", enums.Named.__subclasses__(), ids=lambda kind: kind.__name__)
def test_an_enum_has_the_names_of_the_contract_in_their_order(kind: type[enums.Named]) -> None:
    files = [message.DESCRIPTOR.file for message in MESSAGES] + [options_pb2.DESCRIPTOR]
    found = [file.enum_types_by_name.get(kind.__name__) for file in files]
    descriptor = next(each for each in found if each is not None)
    prefix = descriptor.values[0].name.removesuffix("UNSPECIFIED")
    assert [member.name for member in kind] == [value.name.removeprefix(prefix) for value in descriptor.values]
    assert [member.value for member in kind] == [member.name for member in kind]


def test_the_manifest_of_a_dataset_is_read_to_its_leaves() -> None:
    lengths = datasets_pb2.TokenLengths(tokenizer="regex-v1", mean=4.5, total=9)
    statistics = datasets_pb2.CategoryStatistics(category="sums", trace_count=2, token_lengths=lengths)
    manifest: Any = record(datasets_pb2.DatasetManifest(category_statistics=[statistics], categories={"sums": 2}))
    assert manifest.category_statistics[0].token_lengths.mean == 4.5
    assert manifest.categories == {"sums": 2}
