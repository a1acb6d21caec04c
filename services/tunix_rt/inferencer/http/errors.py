"""Maps the error tree to HTTP statuses and OpenAI's error object."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, NamedTuple

from tunix_rt import errors

_REQUEST = "invalid_request_error"
_SERVER = "server_error"


class _Form(NamedTuple):
    status: HTTPStatus
    type: str
    code: str | None


_FORMS: tuple[tuple[type[errors.TunixError], _Form], ...] = (
    (errors.InvalidInput, _Form(HTTPStatus.BAD_REQUEST, _REQUEST, "invalid_value")),
    (errors.NotFound, _Form(HTTPStatus.NOT_FOUND, _REQUEST, "model_not_found")),
    (errors.Conflict, _Form(HTTPStatus.CONFLICT, _REQUEST, "conflict")),
    (errors.Aborted, _Form(HTTPStatus.CONFLICT, _REQUEST, "aborted")),
    (errors.FailedPrecondition, _Form(HTTPStatus.BAD_REQUEST, _REQUEST, "failed_precondition")),
    (errors.Unauthenticated, _Form(HTTPStatus.UNAUTHORIZED, _REQUEST, "invalid_api_key")),
    (errors.PermissionDenied, _Form(HTTPStatus.FORBIDDEN, _REQUEST, "insufficient_permissions")),
    (errors.Exhausted, _Form(HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error", "queue_full")),
    (errors.Transient, _Form(HTTPStatus.SERVICE_UNAVAILABLE, _SERVER, "unavailable")),
    (errors.InvalidArtifact, _Form(HTTPStatus.INTERNAL_SERVER_ERROR, _SERVER, "invalid_artifact")),
)
_UNKNOWN = _Form(HTTPStatus.INTERNAL_SERVER_ERROR, _SERVER, None)


def status_of(error: errors.TunixError) -> int:
    return int(_form_of(error).status)


def headers_of(error: errors.TunixError) -> dict[str, str]:
    """``Retry-After`` in whole seconds for retryable errors; ``WWW-Authenticate`` for a missing token."""
    if isinstance(error, errors.Exhausted):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_seconds)))}
    if isinstance(error, errors.Transient):
        return {"Retry-After": "1"}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, errors.Unauthenticated) else {}


def error_object(error: errors.TunixError) -> dict[str, Any]:
    """``param`` names every offending field."""
    form = _form_of(error)
    names = [violation.field for violation in error.violations] if isinstance(error, errors.InvalidInput) else []
    return _object(str(error), form.type, form.code, ", ".join(dict.fromkeys(names)) or None)


def plain_error(message: str, status: int) -> dict[str, Any]:
    """The error object of an HTTP error: unknown path, body too large."""
    return _object(message, _REQUEST if status < 500 else _SERVER, None, None)


def internal_error() -> dict[str, Any]:
    """The error object of an unexpected exception, whose text is only logged."""
    return plain_error("internal error; the service's log has the details", HTTPStatus.INTERNAL_SERVER_ERROR)


def _form_of(error: errors.TunixError) -> _Form:
    return next((form for kind, form in _FORMS if isinstance(error, kind)), _UNKNOWN)


def _object(message: str, kind: str, code: str | None, param: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
