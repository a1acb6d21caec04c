"""JSON logs on stderr, one object per line, with the ids of the current work. Secrets are redacted.

Needs the ``server`` extra: client code must not import this module.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from typing import Any

import structlog

from tunix_rt.observability import propagation

_SECRET_KEY = re.compile(r"token$|password|secret|authorization|api_key|credential", re.IGNORECASE)
_BEARER = re.compile(r"(?i)\bbearer\s+\S+")
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
_REDACTED = "[redacted]"
_protected: set[str] = set()


def protect(*secrets: str | None) -> None:
    """Redact ``secrets`` (at least 8 characters each) in every later log value."""
    _protected.update(secret for secret in secrets if secret and len(secret) >= 8)


def configure_logging(service: str, level: str = "INFO") -> None:
    """Send structlog's and the standard library's records through one JSON pipeline. Replaces an earlier set-up."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _add(service),
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(sort_keys=True, ensure_ascii=False, default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for one module; pass ``__name__``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def bound_ids(**ids: str | int) -> AbstractContextManager[None]:
    """Add ``run_id``, ``attempt_id``, ``event_id``, … to every record inside the block, across awaits and tasks."""
    return structlog.contextvars.bound_contextvars(**ids)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: redact values of secret-looking keys, and protected secrets inside other values."""
    for key, value in event.items():
        if not key.startswith("_"):
            event[key] = _REDACTED if _SECRET_KEY.search(key) else _clean(value)
    return event


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        for secret in _protected:
            value = value.replace(secret, _REDACTED)
        return _URL_CREDENTIALS.sub(f"{_REDACTED}@", _BEARER.sub(f"Bearer {_REDACTED}", value))
    if isinstance(value, dict):
        return {k: _REDACTED if _SECRET_KEY.search(str(k)) else _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    if isinstance(value, bytes | Exception):
        return _clean(str(value))
    return value


def _add(service: str) -> structlog.typing.Processor:
    def processor(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        traceparent = propagation.inject()
        if traceparent:
            event["trace_id"] = traceparent.split("-")[1]
        return event

    return processor
