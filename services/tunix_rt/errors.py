"""The one error tree of Tunix-RT. Foreign exceptions become it once, at each edge; `rpc` maps it to gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


class TunixError(Exception):
    """Base of every error that a caller may meet."""


@dataclass(frozen=True)
class FieldViolation:
    """One offending field: its path from the request (``spec.base_model``) and what to do about it."""

    field: str
    description: str


class InvalidInput(TunixError):
    """The request is malformed; names every offending field at once (INVALID_ARGUMENT)."""

    def __init__(self, violations: list[FieldViolation] | tuple[FieldViolation, ...]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in self.violations))


class NotFound(TunixError):
    """The named resource does not exist (NOT_FOUND)."""


class Conflict(TunixError):
    """The resource exists already, or a request_id was used for another payload (ALREADY_EXISTS)."""


class Aborted(TunixError):
    """A stale etag or an old lease epoch (ABORTED): read again, then retry."""


class FailedPrecondition(TunixError):
    """The system's state does not allow it, and repeating does not help (FAILED_PRECONDITION)."""


class Unauthenticated(TunixError):
    """No token, or an unknown one (UNAUTHENTICATED)."""


class PermissionDenied(TunixError):
    """The token's role does not allow it (PERMISSION_DENIED)."""


class Exhausted(TunixError):
    """A bounded queue or budget is full (RESOURCE_EXHAUSTED)."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class Transient(TunixError):
    """A dependency is out of reach for now (UNAVAILABLE)."""


class InvalidArtifact(TunixError):
    """A stored file is missing, truncated, or does not have the digest it should have (DATA_LOSS)."""


@dataclass
class Violations:
    """Collects violations of a request, so that all of them are named at once."""

    prefix: str = ""
    found: list[FieldViolation] = field(default_factory=list)

    def add(self, path: str, description: str) -> None:
        self.found.append(FieldViolation(f"{self.prefix}{path}", description))

    def check(self, ok: bool, path: str, description: str) -> bool:
        """Record a violation unless ``ok``; returns ``ok``."""
        if not ok:
            self.add(path, description)
        return ok

    def under(self, path: str) -> Violations:
        """A collector for a nested message that writes into the same list."""
        return Violations(f"{self.prefix}{path}.", self.found)

    def raise_if_any(self) -> None:
        """Raise `InvalidInput` with everything found so far."""
        if self.found:
            raise InvalidInput(self.found)

    def __bool__(self) -> bool:
        """Whether anything was found."""
        return bool(self.found)

    def __iter__(self) -> Iterator[FieldViolation]:
        return iter(self.found)
