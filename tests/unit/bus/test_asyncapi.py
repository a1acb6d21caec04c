"""docs/asyncapi.yaml says what the contracts say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tunix_rt.bus.topology import EVALUATE, TUNE, streams, train_consumer
from tunix_rt.v1 import events_pb2

ROOT = Path(__file__).parents[3]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
PROTO = (ROOT / "protos" / "tunix_rt" / "v1" / "events.proto").read_text()


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def test_every_fact_of_the_contract_is_described_and_no_other() -> None:
    declared = {}
    for comment, message in re.findall(r"// tunix\.evt\.(.+)\n(?:// .*\n)*message (\w+)", PROTO):
        resource, what = re.match(r"(\w+)\.(?:\{([\w,]+)\}|\w+)", comment).group(1, 2)  # type: ignore[union-attr]
        declared[resource] = (sorted(what.split(",")) if what else [comment.split(".")[1]], message)
    described = {}
    for name, channel in DOCUMENT["channels"].items():
        if channel["address"].startswith("tunix.evt."):
            resource = channel["address"].split(".")[2]
            reference = channel["messages"][name]["$ref"]
            described[resource] = (sorted(channel["parameters"]["what"]["enum"]), reference.rsplit("/", 1)[1])
    assert len(declared) == 11
    for resource in declared:
        assert described[resource] == declared[resource]
    assert described.keys() == declared.keys()


def test_every_body_has_the_fields_of_its_protobuf_message() -> None:
    messages = DOCUMENT["components"]["messages"]
    for name, message in messages.items():
        if name == "DeadLetter":
            continue
        descriptor = events_pb2.DESCRIPTOR.message_types_by_name[name]
        assert sorted(message["payload"]["properties"]) == sorted(camel(field.name) for field in descriptor.fields)


def test_every_subject_lies_in_a_stream_and_every_command_has_a_consumer() -> None:
    prefixes = [subject.removesuffix(">") for stream in streams() for subject in stream.subjects]
    addresses = [channel["address"] for channel in DOCUMENT["channels"].values()]
    assert all(any(address.startswith(prefix) for prefix in prefixes) for address in addresses)
    commands = {address for address in addresses if address.startswith("tunix.cmd.")}
    consumers = (train_consumer("{pool}"), EVALUATE, TUNE)
    assert commands == {consumer.filter_subject for consumer in consumers}


def test_every_reference_resolves() -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                target: Any = DOCUMENT
                for part in node["$ref"].removeprefix("#/").split("/"):
                    target = target[part]
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(DOCUMENT)
