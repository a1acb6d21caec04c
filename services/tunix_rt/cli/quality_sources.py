"""Where the quality checks read from: files, evalsets that ship, and, when neither is meant, the platform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunix_rt.cli.context import client
from tunix_rt.errors import NotFound

if TYPE_CHECKING:
    import typer

    from tunix_rt.quality.items import EvalItem
    from tunix_rt.v1 import evalsets_pb2


def trace_jsonl(ctx: typer.Context, name: str) -> tuple[str, bytes]:
    """What to call it, and the trace JSONL: of a file, or of the registered dataset with that id or key."""
    path = Path(name)
    if path.exists() or path.suffix == ".jsonl" or "/" in name:
        return name, path.read_bytes()
    with client(ctx) as api:
        dataset = api.datasets.resolve(name)
        return f"{dataset.key} ({dataset.id})", b"".join(api.datasets.export(dataset.id, format="trace"))


def evalset_items(ctx: typer.Context, name: str) -> list[EvalItem]:
    """The items of a file, of an evalset that ships, or of the registered one with that id or key, in this order."""
    from tunix_rt.client.shipped import evalset_path
    from tunix_rt.quality.items import parse_evalset

    try:
        path = evalset_path(name)
    except NotFound:
        if name.endswith(".jsonl") or "/" in name:
            raise
        with client(ctx) as api:
            return [_item(message) for message in api.evalsets.items(api.evalsets.get(name).id)]
    return list(parse_evalset(path.read_bytes()).items)


def _item(message: evalsets_pb2.EvalSetItem) -> EvalItem:
    from google.protobuf import json_format

    from tunix_rt.client.arguments import enum_name
    from tunix_rt.quality.items import EvalItem
    from tunix_rt.v1 import evalsets_pb2

    return EvalItem(
        id=message.id,
        prompt=message.prompt,
        expected_answer=message.expected_answer,
        answer_type=enum_name(evalsets_pb2.AnswerType.DESCRIPTOR, message.answer_type).lower(),
        abs_tol=message.abs_tol or "0",
        rel_tol=message.rel_tol or "0",
        unit=message.unit,
        aliases=tuple(message.aliases),
        cluster_id=message.cluster_id,
        meta=json_format.MessageToDict(message.meta),
        index=message.index,
    )
