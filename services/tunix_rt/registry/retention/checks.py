"""Requests of RetentionService, checked field by field."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from tunix_rt.errors import Violations
from tunix_rt.registry.kernel.fields import check_id, check_request_id
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.v1 import retention_pb2 as pb

_MAX_AGE: Final = 10 * 365 * 24 * 3600


def check_resource(request: Any) -> None:
    """Raises `InvalidInput` when the request id or the id is malformed."""
    violations = Violations()
    if not getattr(request, "validate_only", False) or request.request_id:
        check_request_id(violations, request.request_id)
    check_id(violations, request.id, "id")
    violations.raise_if_any()


def garbage_age(request: pb.CollectGarbageRequest, settings: RegistrySettings) -> timedelta:
    """How long nobody must have written to what is removed. Raises `InvalidInput`."""
    violations = Violations()
    least = settings.garbage_min_age_seconds
    seconds = request.older_than_seconds or max(least, settings.garbage_age_hours * 3600)
    violations.check(
        least <= seconds <= _MAX_AGE,
        "older_than_seconds",
        f"must be in [{least:g}, {_MAX_AGE}] (the first is TUNIX_RT_GARBAGE_MIN_AGE_SECONDS)",
    )
    violations.raise_if_any()
    return timedelta(seconds=seconds)
