"""The one error tree of Tunix-RT. Foreign exceptions become it once, at each edge; `rpc` maps it to gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final


class TunixError(Exception):
    """Base of every error that a caller may meet."""


@dataclass(frozen=True)
class FieldViolation:
    """One offending field: its path from the request (``spec.base_model``) and what to do about it."""

    field: str
    description: str


# Violations that one error names, and characters of each. An answer must not grow with a hostile request.
MAX_VIOLATIONS: Final = 100
_MAX_PATH, _MAX_DESCRIPTION = 300, 2_000


class InvalidInput(TunixError):
    """The request is malformed; names every offending field at once, up to `MAX_VIOLATIONS` (INVALID_ARGUMENT)."""

    def __init__(self, violations: list[FieldViolation] | tuple[FieldViolation, ...]) -> None:
        more = len(violations) - MAX_VIOLATIONS
        # A last one without a field says that there are more.
        rest = (FieldViolation("", f"and {more} more violations"),) if more > 1 else violations[MAX_VIOLATIONS:]
        self.violations = (*violations[:MAX_VIOLATIONS], *rest)
        # How many that last one stands for.
        self.omitted = more if more > 1 else 0
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
    """Collects violations of a request, so that all of them are named at once.

    Beyond ``limit`` the check is over: `add` raises `InvalidInput`, so that a request in which everything is wrong
    costs no more than its first violations. None: no limit, for reports on a person's own files.
    """

    prefix: str = ""
    found: list[FieldViolation] = field(default_factory=list)
    limit: int | None = MAX_VIOLATIONS

    def add(self, path: str, description: str) -> None:
        if self.limit is not None and len(self.found) >= self.limit:
            rest = FieldViolation("", f"and possibly more: the check stopped after {self.limit} violations")
            raise InvalidInput([*self.found, rest])
        self.found.append(FieldViolation(f"{self.prefix}{path}"[:_MAX_PATH], description[:_MAX_DESCRIPTION]))

    def check(self, ok: bool, path: str, description: str) -> bool:
        """Record a violation unless ``ok``; returns ``ok``."""
        if not ok:
            self.add(path, description)
        return ok

    def under(self, path: str) -> Violations:
        """A collector for a nested message that writes into the same list."""
        return Violations(f"{self.prefix}{path}.", self.found, self.limit)

    def raise_if_any(self) -> None:
        """Raise `InvalidInput` with everything found so far."""
        if self.found:
            raise InvalidInput(self.found)

    def __bool__(self) -> bool:
        """Whether anything was found."""
        return bool(self.found)

    def __iter__(self) -> Iterator[FieldViolation]:
        return iter(self.found)
