"""The error tree as gRPC statuses with google.rpc details, and back. The only place that knows both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from tunix_rt import errors

T = TypeVar("T")
# Statuses travel in trailers, and a plain client accepts 8 KiB of them (base64 and percent-encoding included).
_DETAIL_BYTES = 4000
_MESSAGE_CHARACTERS = 500

_CODES: tuple[tuple[type[errors.TunixError], int], ...] = (
    (errors.InvalidInput, code_pb2.INVALID_ARGUMENT),
    (errors.NotFound, code_pb2.NOT_FOUND),
    (errors.Conflict, code_pb2.ALREADY_EXISTS),
    (errors.Aborted, code_pb2.ABORTED),
    (errors.FailedPrecondition, code_pb2.FAILED_PRECONDITION),
    (errors.Unauthenticated, code_pb2.UNAUTHENTICATED),
    (errors.PermissionDenied, code_pb2.PERMISSION_DENIED),
    (errors.Exhausted, code_pb2.RESOURCE_EXHAUSTED),
    (errors.Transient, code_pb2.UNAVAILABLE),
    (errors.InvalidArtifact, code_pb2.DATA_LOSS),
)


def to_status(error: errors.TunixError) -> status_pb2.Status:
    """The status of an error, with BadRequest (InvalidInput) or RetryInfo (Exhausted, Transient) as details."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), code_pb2.INTERNAL)
    status = status_pb2.Status(code=code, message=_shortened(str(error)))
    if isinstance(error, errors.InvalidInput):
        _pack(status, _bad_request(error))
    elif isinstance(error, errors.Exhausted):
        _pack(status, _retry_info(error.retry_after_seconds))
    elif isinstance(error, errors.Transient):
        _pack(status, _retry_info(1.0))
    return status


def from_rpc_error(error: grpc.RpcError) -> errors.TunixError:
    """The error that a failed call stands for. Internal and unknown errors of the peer become a bare `TunixError`."""
    code = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN
    message = (error.details() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None) or str(error)
    details = _details(error)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return _invalid_input(message, details)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if "larger than max" in message:
            return errors.InvalidInput([errors.FieldViolation("", f"the message is too large: {message}")])
        return errors.Exhausted(message, _retry_after(details))
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return errors.Transient(f"{code.name}: {message}")
    if code in (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNIMPLEMENTED):
        return errors.FailedPrecondition(message)
    number = code.value[0]
    kind = next((kind for kind, known in _CODES if known == number), None)
    return kind(message) if kind else errors.TunixError(f"{code.name}: {message}")


async def answered(call: Awaitable[T]) -> T:
    """The answer of an asyncio call, its failure translated by `failure_of`."""
    try:
        return await call
    except grpc.RpcError as error:
        raise failure_of(error) from error


def failure_of(error: grpc.RpcError) -> BaseException:
    """`from_rpc_error` for asyncio code: gRPC turns the cancellation of the calling task into a status like any other,
    and here it becomes a CancelledError again."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        return asyncio.CancelledError()
    return from_rpc_error(error)


def _details(error: grpc.RpcError) -> tuple[any_pb2.Any, ...]:
    try:
        status = rpc_status.from_call(error)
    except (ValueError, AttributeError):
        # The trailers contradict the status line, or it never was a call.
        return ()
    return tuple(status.details) if status is not None else ()


def _invalid_input(message: str, details: tuple[any_pb2.Any, ...]) -> errors.InvalidInput:
    bad_request = error_details_pb2.BadRequest()
    for detail in details:
        if detail.Unpack(bad_request):
            found = [errors.FieldViolation(v.field, v.description) for v in bad_request.field_violations]
            return errors.InvalidInput(found)
    return errors.InvalidInput([errors.FieldViolation("", message)])


def _retry_after(details: tuple[any_pb2.Any, ...]) -> float:
    retry = error_details_pb2.RetryInfo()
    for detail in details:
        if detail.Unpack(retry):
            return float(retry.retry_delay.seconds) + float(retry.retry_delay.nanos) / 1e9
    return 1.0


def _bad_request(error: errors.InvalidInput) -> error_details_pb2.BadRequest:
    """Every violation, as long as they fit into the trailers; then how many more there are."""
    packed = error_details_pb2.BadRequest()
    used = 0
    for violation in error.named:
        row = error_details_pb2.BadRequest.FieldViolation(
            field=violation.field[:200], description=_shortened(violation.description)
        )
        used += row.ByteSize() + 4
        if used > _DETAIL_BYTES:
            break
        packed.field_violations.append(row)
    for rest in error.rest_after(len(packed.field_violations)):
        packed.field_violations.add(field=rest.field, description=rest.description)
    return packed


def _retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    return error_details_pb2.RetryInfo(
        retry_delay=duration_pb2.Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
    )


def _pack(status: status_pb2.Status, detail: error_details_pb2.BadRequest | error_details_pb2.RetryInfo) -> None:
    status.details.add().Pack(detail)


def _shortened(text: str) -> str:
    return text if len(text) <= _MESSAGE_CHARACTERS else text[: _MESSAGE_CHARACTERS - 1] + "…"
