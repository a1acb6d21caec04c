"""Middlewares around every HTTP request, from the outside: telemetry, error mapping, load limit, audit log,
authentication, project.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from tunix_rt.errors import Exhausted, PermissionDenied, TunixError, Unauthenticated
from tunix_rt.inferencer.http.errors import error_object, headers_of, internal_error, plain_error, status_of
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.observability import metrics
from tunix_rt.observability.logs import get_logger
from tunix_rt.observability.propagation import TRACEPARENT, span
from tunix_rt.rpc.auth import ANONYMOUS, Authorizer, bearer_token, current_principal, set_current_principal
from tunix_rt.rpc.call import Call
from tunix_rt.rpc.client_certificates import check_bound, common_name
from tunix_rt.rpc.limits import CallLimits, LogIns, authenticated
from tunix_rt.rpc.projects import PROJECT_HEADER, project_of_call, set_current_project

Refused = Callable[[Call, TunixError], None]
_log = get_logger(__name__)


def guards(authorizer: Authorizer | None, settings: InferencerSettings, refused: Refused | None) -> list[Middleware]:
    """The middlewares in aiohttp's order, outermost first. ``authorizer`` None: no authentication."""
    found = [_telemetry(), _errors(), _load(settings.max_concurrent_rpcs)]
    if refused is not None:
        found.append(_audit(refused))
    if authorizer is not None:
        found.append(_auth(authorizer, settings))
    return [*found, _project()]


def _telemetry() -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        name, started, code = f"{request.method} {_route(request)}", time.monotonic(), "CANCELLED"
        metrics.RPCS_IN_FLIGHT.inc()
        set_current_principal(ANONYMOUS)  # requests of one connection share a task
        try:
            with span(name, kind="server", traceparent=request.headers.get(TRACEPARENT, "")):
                response = await handler(request)
                code = str(response.status)
                return response
        finally:
            seconds = time.monotonic() - started
            metrics.RPCS_IN_FLIGHT.dec()
            metrics.RPCS.labels(name, code).inc()
            metrics.RPC_SECONDS.labels(name).observe(seconds)
            _log.info(
                "http",
                method=name,
                code=code,
                seconds=round(seconds, 4),
                principal=current_principal().name,
                peer=request.remote,
                certificate=common_name(request.get_extra_info("peercert")),
            )

    return guard


def _errors() -> Middleware:
    """Maps the error tree to statuses. Any other exception is 500, and its text is only logged."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except TunixError as error:
            return web.json_response(error_object(error), status=status_of(error), headers=headers_of(error))
        except web.HTTPException as error:
            headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            what = f"{request.method} {request.path}: {error.reason}"
            return web.json_response(plain_error(what, error.status), status=error.status, headers=headers)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a panic of native code is no Exception
            _log.exception("http request failed", path=request.path)
            return web.json_response(internal_error(), status=500)

    return guard


def _load(limit: int) -> Middleware:
    in_flight = 0

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal in_flight
        if in_flight >= limit:
            raise Exhausted(f"{limit} requests are already in flight; retry later")
        in_flight += 1
        try:
            return await handler(request)
        finally:
            in_flight -= 1

    return guard


def _audit(refused: Refused) -> Middleware:
    """Notes refusals, as in gRPC."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (Unauthenticated, PermissionDenied) as error:
            name, certificate = f"{request.method} {_route(request)}", common_name(request.get_extra_info("peercert"))
            refused(Call(name, request.remote or "", certificate=certificate), error)
            raise

    return guard


def _auth(authorizer: Authorizer, settings: InferencerSettings) -> Middleware:
    """Bearer tokens and client certificates as in gRPC; generating and listing models need the permission generate."""

    log_ins, calls, tls = LogIns(), CallLimits(settings.limits), settings.tls

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        token = bearer_token(request.headers.get("Authorization"))
        certificate = common_name(request.get_extra_info("peercert"))
        trusted = certificate if tls.principals else ""
        principal = await authenticated(authorizer, log_ins, token, request.remote or "", trusted)
        set_current_principal(principal)
        check_bound(principal, certificate, tls)
        if not principal.allows("generate"):
            raise PermissionDenied(
                f"{request.path} needs the permission 'generate', which {principal.name!r} does not have"
            )
        with calls.call(principal.name, stream=False):
            return await handler(request)

    return guard


def _project() -> Middleware:
    """Decides in which project a request works, as in gRPC."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        set_current_project("")  # requests of one connection share a task
        named = request.headers.get(PROJECT_HEADER, "")
        set_current_project(project_of_call(current_principal(), named, "generate"))
        return await handler(request)

    return guard


def _route(request: web.Request) -> str:
    """The path's pattern, so metrics have one label per route."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "(no route)"
