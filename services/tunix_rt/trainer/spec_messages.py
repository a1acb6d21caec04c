"""The contract's train command."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format

from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.v1 import events_pb2


def run_id_of(body: dict[str, Any]) -> str:
    """The run that a `TrainCommand` in protobuf's JSON form names. Raises `InvalidInput` when it names none."""
    try:
        command = json_format.ParseDict(body, events_pb2.TrainCommand(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise InvalidInput([FieldViolation("data", f"not a TrainCommand: {error}")]) from error
    if not command.run_id:
        raise InvalidInput([FieldViolation("data.run_id", "a non-empty string is required")])
    return command.run_id
