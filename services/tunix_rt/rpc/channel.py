"""Opens gRPC channels with Tunix-RT's defaults: token, deadline, retries of UNAVAILABLE, keepalive, trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from tunix_rt.observability.propagation import TRACEPARENT, inject
from tunix_rt.rpc.credentials import channel_credentials
from tunix_rt.rpc.projects import PROJECT_HEADER
from tunix_rt.rpc.renewed_channels import RenewedChannel, RenewedSyncChannel
from tunix_rt.rpc.settings import MAX_MESSAGE_BYTES, TlsSettings
from tunix_rt.rpc.tls import refuse_clear_text
from tunix_rt.rpc.token_file import TokenSource, current_token

UNARY_DEADLINE_SECONDS = 30.0
STREAM_DEADLINE_SECONDS = 3600.0

_RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_OPTIONS = [
    ("grpc.service_config", json.dumps(_RETRIES)),
    ("grpc.enable_retries", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # what gRPC waits for: the one before does not end a connection
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A service that was restarted is found again within two seconds.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


class _Caller(NamedTuple):
    """As whom calls are made, and in which project; "" is the caller's own."""

    token: TokenSource
    project: str


def open_channel(
    address: str, *, token: TokenSource, tls: TlsSettings | None = None, project: str = ""
) -> grpc.aio.Channel:
    """An asyncio channel to ``host:port``. A call without a deadline gets 30 s (streams of answers: one hour).

    ``token`` may be what gives the current one, ``project`` the one that a caller of the whole instance works in. The
    files of ``tls`` are read again when they change. Close the channel when done. Connecting happens at the first call,
    so the peer need not be there yet. Raises `FailedPrecondition` where the token would leave this machine in plain
    text.
    """
    tls = _checked(address, token, tls)
    interceptors: list[grpc.aio.ClientInterceptor] = [
        kind(_Caller(token, project)) for kind in (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)
    ]
    if not tls.enabled:
        return grpc.aio.insecure_channel(address, options=_OPTIONS, interceptors=interceptors)

    def make() -> grpc.aio.Channel:
        return grpc.aio.secure_channel(
            address, channel_credentials(tls), options=_options(tls), interceptors=interceptors
        )

    return RenewedChannel(make, tls, STREAM_DEADLINE_SECONDS)


def open_sync_channel(
    address: str, *, token: TokenSource, tls: TlsSettings | None = None, project: str = ""
) -> grpc.Channel:
    """`open_channel` for code without an event loop."""
    tls = _checked(address, token, tls)
    interceptor = _SyncInterceptor(_Caller(token, project))
    if not tls.enabled:
        return grpc.intercept_channel(grpc.insecure_channel(address, options=_OPTIONS), interceptor)

    def make() -> grpc.Channel:
        return grpc.secure_channel(address, channel_credentials(tls), options=_options(tls))

    return grpc.intercept_channel(RenewedSyncChannel(make, tls, STREAM_DEADLINE_SECONDS), interceptor)


def _checked(address: str, token: TokenSource, tls: TlsSettings | None) -> TlsSettings:
    tls = TlsSettings() if tls is None else tls
    if token and not tls.enabled:
        refuse_clear_text(address, "the bearer token", tls)
    return tls


def _options(tls: TlsSettings) -> list[tuple[str, Any]]:
    return [*_OPTIONS, ("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else _OPTIONS


def _headers(caller: _Caller) -> list[tuple[str, str]]:
    token = current_token(caller.token)
    headers = [("authorization", f"Bearer {token}")] if token else []
    if caller.project:
        headers.append((PROJECT_HEADER, caller.project))
    traceparent = inject()
    if traceparent:
        headers.append((TRACEPARENT, traceparent))
    return headers


class _SyncDetails(NamedTuple):
    method: str
    timeout: float | None
    metadata: list[tuple[str, str | bytes]]
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


def _aio_details(details: grpc.aio.ClientCallDetails, caller: _Caller, deadline: float) -> grpc.aio.ClientCallDetails:
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    present = {name for name, _ in metadata}
    for name, value in _headers(caller):
        if name not in present:
            metadata.add(name, value)
    timeout = details.timeout if details.timeout is not None else deadline
    return grpc.aio.ClientCallDetails(details.method, timeout, metadata, details.credentials, details.wait_for_ready)


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_aio_details(client_call_details, self._caller, UNARY_DEADLINE_SECONDS), request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_aio_details(client_call_details, self._caller, STREAM_DEADLINE_SECONDS), request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(
            _aio_details(client_call_details, self._caller, STREAM_DEADLINE_SECONDS), request_iterator
        )


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(
            _aio_details(client_call_details, self._caller, STREAM_DEADLINE_SECONDS), request_iterator
        )


class _SyncInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    def _details(self, details: Any, deadline: float) -> _SyncDetails:
        metadata = list(details.metadata or ())
        present = {name for name, _ in metadata}
        metadata.extend((name, value) for name, value in _headers(self._caller) if name not in present)
        timeout = details.timeout if details.timeout is not None else deadline
        return _SyncDetails(
            details.method,
            timeout,
            metadata,
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        return continuation(self._details(client_call_details, UNARY_DEADLINE_SECONDS), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        return continuation(self._details(client_call_details, STREAM_DEADLINE_SECONDS), request)

    def intercept_stream_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(self._details(client_call_details, STREAM_DEADLINE_SECONDS), request_iterator)

    def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(self._details(client_call_details, STREAM_DEADLINE_SECONDS), request_iterator)
