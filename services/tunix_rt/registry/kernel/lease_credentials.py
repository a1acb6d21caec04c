"""A lease is a credential: it belongs to the principal that claimed, and has a secret of which only a hash is kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tunix_rt.registry.kernel.job_tables import AttemptRow

# 256 bit.
_SECRET_BYTES: Final = 32


@dataclass(frozen=True)
class Lease:
    """The credential of one attempt: what a claim is answered with, and what a worker sends.

    ``principal`` is who claimed, or who sends it. ``secret`` is known after a claim and from a worker only.
    """

    job_id: str
    attempt_id: str
    epoch: int
    expire_time: datetime | None = None
    secret: str = field(default="", repr=False)
    principal: str = ""


def new_secret() -> str:
    """A random secret."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def secret_hash(secret: str) -> str:
    """sha256 hex digest. A secret is random, so no salt or stretching is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def belongs_to_sender(attempt: AttemptRow, lease: Lease) -> bool:
    """Whether who sends ``lease`` is who claimed the attempt, and knows its secret."""
    known = hmac.compare_digest(attempt.secret_hash, secret_hash(lease.secret))
    return known and attempt.principal == lease.principal
