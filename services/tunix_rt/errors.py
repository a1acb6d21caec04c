"""The one error tree of Tunix-RT. Foreign exceptions become it once, at each edge; `rpc` maps it to gRPC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final


class TunixError(Exception):
    """Base of every error that a caller may meet."""


@dataclass(frozen=True)
class FieldViolation:
    """One offending field: its path from the request (``spec.base_model``) and what to do about it."""

    field: str
    description: str


# Violations that one error names, and characters of each: an answer must not grow with a hostile request.
MAX_VIOLATIONS: Final = 100
_MAX_PATH, _MAX_DESCRIPTION = 300, 2_000
# A check ends here: what a request in which everything is wrong may cost.
_MAX_FOUND: Final = 10_000


class InvalidInput(TunixError):
    """The request is malformed; names every offending field at once (INVALID_ARGUMENT).

    ``named`` are the first `MAX_VIOLATIONS`, ``count`` is how many there are. ``violations`` are ``named``, and one
    without a field that says how many more there are.
    """

    def __init__(self, violations: Sequence[FieldViolation], *, stopped: bool = False) -> None:
        """``stopped``: there may be more that were not looked for."""
        self.named = tuple(violations[:MAX_VIOLATIONS])
        self.count = len(violations)
        self.stopped = stopped
        self.violations = (*self.named, *self.rest_after(len(self.named)))
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in self.violations))

    def rest_after(self, shown: int) -> tuple[FieldViolation, ...]:
        """What to say of the violations that are not among the first ``shown``; nothing if there are none."""
        more = self.count - shown
        if not more and not self.stopped:
            return ()
        return (FieldViolation("", f"and {'at least ' if self.stopped else ''}{more} more violations"),)


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
    limit: int | None = _MAX_FOUND

    def add(self, path: str, description: str) -> None:
        if self.limit is not None and len(self.found) >= self.limit:
            raise InvalidInput(self.found, stopped=True)
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
