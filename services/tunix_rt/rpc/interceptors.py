"""Server interceptors as guards: an async context around every RPC, whatever its cardinality.

Order, outermost first: telemetry, error mapping, load limit, authentication. (So errors of authentication are mapped
too.)
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, nullcontext
from typing import Any

import grpc
from grpc_status import rpc_status

from tunix_rt.errors import Exhausted, PermissionDenied, TunixError
from tunix_rt.observability import metrics
from tunix_rt.observability.logs import get_logger
from tunix_rt.observability.propagation import TRACEPARENT, span
from tunix_rt.rpc.auth import (
    Authorizer,
    bearer_token,
    current_principal,
    set_current_principal,
    token_hash,
)
from tunix_rt.rpc.call import Call, current_call, set_current_call
from tunix_rt.rpc.client_certificates import check_bound
from tunix_rt.rpc.credentials import peer_certificate_name
from tunix_rt.rpc.errors import to_status
from tunix_rt.rpc.lanes import CONTROL, Lane, new_turn, set_current_turn
from tunix_rt.rpc.limits import CallLimits, Limits, LogIns, OpenStreams, Places, Strangers, authenticated
from tunix_rt.rpc.permissions import answers_with_a_stream, required_permission
from tunix_rt.rpc.projects import PROJECT_HEADER, project_of_call, set_current_project
from tunix_rt.rpc.settings import TlsSettings
from tunix_rt.rpc.waiting_room import WaitingRoom

Context = grpc.aio.ServicerContext[Any, Any]
Guard = Callable[[str, Context], AbstractAsyncContextManager[None]]
_log = get_logger(__name__)


class GuardInterceptor(grpc.aio.ServerInterceptor):
    """Runs ``guards``, each a ``guard(full method name, context)``, around the handler of every RPC, the first
    outermost."""

    def __init__(self, *guards: Guard) -> None:
        self._guard = _all(guards)
        # By method: the handler, and what it has become.
        self._guarded: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None:  # unknown method: gRPC answers UNIMPLEMENTED
            return handler
        method = handler_call_details.method
        known, guarded = self._guarded.get(method, (None, None))
        if known is not handler:
            guarded = _guarded(handler, method, self._guard)
            self._guarded[method] = handler, guarded
        return guarded  # type: ignore[no-any-return]


def _all(guards: Sequence[Guard]) -> Guard:
    @asynccontextmanager
    async def guard(method: str, context: Context) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for each in guards:
                await stack.enter_async_context(each(method, context))
            yield

    return guard


def _guarded(handler: Any, method: str, guard: Guard) -> Any:
    def note(request: Any, context: Context) -> None:
        body = None if handler.request_streaming else request
        set_current_call(Call(method, context.peer(), body, peer_certificate_name(context) or ""))

    async def unary_response(behaviour: Any, request: Any, context: Context) -> Any:
        note(request, context)
        async with guard(method, context):
            response = behaviour(request, context)
            return await response if inspect.isawaitable(response) else response

    async def stream_response(behaviour: Any, request: Any, context: Context) -> None:
        """Writes to the context itself. gRPC would abandon a generator whose client is gone: it would be closed by the
        garbage collector, at some later time and in another task than its spans and its callers' blocks."""
        note(request, context)
        async with guard(method, context):
            responses = behaviour(request, context)
            if inspect.isawaitable(responses):
                await responses  # it writes to the context, too
                return
            async with aclosing(responses):
                async for response in responses:
                    await _write(context, response)

    kinds = {
        (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler, unary_response),
        (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler, unary_response),
        (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler, stream_response),
        (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler, stream_response),
    }
    name, build, around = kinds[(handler.request_streaming, handler.response_streaming)]
    behaviour = getattr(handler, name)
    if around is stream_response:

        async def streaming(request: Any, context: Context) -> None:
            await stream_response(behaviour, request, context)

        return build(streaming, handler.request_deserializer, handler.response_serializer)

    async def unary(request: Any, context: Context) -> Any:
        return await unary_response(behaviour, request, context)

    return build(unary, handler.request_deserializer, handler.response_serializer)


async def _write(context: Context, response: Any) -> None:
    """Raises `asyncio.CancelledError` when the client has disconnected, as gRPC does when it notices in time."""
    try:
        await context.write(response)
    except (grpc.aio.InternalError, grpc.aio.UsageError) as error:
        raise asyncio.CancelledError("the client is gone") from error


def telemetry_guard() -> Guard:
    """Span (child of the caller's), metrics and one log record per RPC."""

    @asynccontextmanager
    async def guard(method: str, context: Context) -> AsyncIterator[None]:
        name = method.lstrip("/")
        started = time.monotonic()
        metrics.RPCS_IN_FLIGHT.inc()
        code = "CANCELLED"
        try:
            with span(name, kind="server", traceparent=_metadata(context, TRACEPARENT) or ""):
                try:
                    yield
                    code = _code_name(context)
                except grpc.aio.AbortError:
                    code = _code_name(context)
                    raise
                finally:
                    seconds = time.monotonic() - started
                    call = current_call()
                    # Calls that are refused because there are too many are counted, and said together.
                    quiet = code == "RESOURCE_EXHAUSTED" or name.startswith(("grpc.health.", "grpc.reflection."))
                    (_log.debug if quiet else _log.info)(
                        "rpc",
                        method=name,
                        code=code,
                        seconds=round(seconds, 4),
                        principal=current_principal().name,
                        peer=call.origin if call else context.peer(),
                    )
        finally:
            metrics.RPCS_IN_FLIGHT.dec()
            metrics.RPCS.labels(name, code).inc()
            metrics.RPC_SECONDS.labels(name).observe(time.monotonic() - started)

    return guard


def error_guard() -> Guard:
    """Turns the error tree into statuses. Anything else is INTERNAL: its text stays in the log."""

    @asynccontextmanager
    async def guard(method: str, context: Context) -> AsyncIterator[None]:
        try:
            yield
        except grpc.aio.AbortError:
            raise
        except TunixError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))
        except NotImplementedError:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not implemented")
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a panic of native code is no Exception, and still needs an answer
            _log.exception("rpc failed", method=method)
            await context.abort(grpc.StatusCode.INTERNAL, "internal error; the service's log has the details")

    return guard


def load_guard(limit: int, strangers: Strangers | None = None) -> Guard:
    """Lets ``limit`` calls of each lane in at once; others wait, and are refused with RESOURCE_EXHAUSTED when their
    time is up (`lanes`). Streams of answers have as many places of their own, for which they do not wait. Calls of
    ``strangers`` have no part in the workers' lane. Health checks always pass: busy is not dead; streams of strangers
    are few."""
    rooms: dict[Lane, WaitingRoom] = {
        "control": WaitingRoom("control", limit, "place"),
        "calls": WaitingRoom("calls", limit, "place"),
    }
    streams, open_streams = Places(limit), OpenStreams()

    @asynccontextmanager
    async def guard(method: str, context: Context) -> AsyncIterator[None]:
        permission, stream = required_permission(method), answers_with_a_stream(method)
        call = current_call()
        if permission is None:
            with open_streams.stream(call.peer_host) if stream and call else nullcontext():
                yield
            return
        is_control = permission in CONTROL and not (strangers and strangers.know(_credential(context)))
        turn = new_turn("streams" if stream else "control" if is_control else "calls")
        set_current_turn(turn)
        if context.time_remaining() == 0:
            raise Exhausted("the call's deadline was over before it could begin")
        if stream:
            with streams.place():
                yield
        else:
            async with rooms[turn.lane].place(turn):
                yield

    return guard


def auth_guard(authorizer: Authorizer, limits: Limits, tls: TlsSettings, strangers: Strangers | None = None) -> Guard:
    """Authenticates the bearer token or, where ``tls`` says so, the client certificate; checks that they belong
    together, that the method is permitted, and that the principal keeps to the limits. Who calls a worker's method
    without being one is noted in ``strangers``."""
    log_ins, calls = LogIns(), CallLimits(limits)

    @asynccontextmanager
    async def guard(method: str, context: Context) -> AsyncIterator[None]:
        permission = required_permission(method)
        if permission is None:
            yield
            return
        call = current_call()
        token, peer = bearer_token(_metadata(context, "authorization")), call.peer_host if call else ""
        certificate = call.certificate if call else ""
        with strangers.noted(_credential(context)) if strangers and permission in CONTROL else nullcontext():
            principal = await authenticated(authorizer, log_ins, token, peer, certificate if tls.principals else "")
            set_current_principal(principal)
            check_bound(principal, certificate, tls)
            if not principal.allows(permission):
                raise PermissionDenied(
                    f"{method} needs the permission {permission!r}, which {principal.name!r} does not have"
                )
        with calls.call(principal.name, stream=answers_with_a_stream(method)):
            yield

    return guard


def _credential(context: Context) -> str:
    """The hash of what a caller shows, to tell callers apart before they are known."""
    call = current_call()
    return token_hash(f"{_metadata(context, 'authorization')} {call.certificate if call else ''}")


def project_guard() -> Guard:
    """Decides in which project a call works. Runs after authentication."""

    @asynccontextmanager
    async def guard(method: str, context: Context) -> AsyncIterator[None]:
        permission = required_permission(method)
        if permission is not None:
            named = _metadata(context, PROJECT_HEADER) or ""
            set_current_project(project_of_call(current_principal(), named, permission))
        yield

    return guard


def _metadata(context: Context, key: str) -> str | None:
    for name, value in context.invocation_metadata() or ():
        if name == key:
            return value if isinstance(value, str) else value.decode("latin-1")
    return None


def _code_name(context: Context) -> str:
    code = context.code()  # an int, a StatusCode, or nothing when all went well
    if not code:
        return "OK"
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((known.name for known in grpc.StatusCode if known.value[0] == code), str(code))
