"""What the methods of all servicers share: who calls, ids in requests, and streams that follow a resource."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, TypeVar

from google.protobuf.message import Message
from sqlalchemy.orm import Session

from tunix_rt.errors import FieldViolation, InvalidInput, Violations
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.fields import check_text
from tunix_rt.registry.kernel.job_messages import read_reason
from tunix_rt.registry.kernel.states import Reason
from tunix_rt.rpc.auth import current_principal

M = TypeVar("M", bound=Message)

POLL_SECONDS: Final = 1.0
_CANCEL_REASONS: Final = (Reason.USER_CANCELLED, Reason.EARLY_STOPPED, Reason.PARENT_CANCELLED)


def caller() -> str:
    """Name of the token that calls."""
    return current_principal().name


def checked_id(value: str, path: str = "id") -> str:
    """``value``, when it can be an id; raises `InvalidInput` naming ``path``."""
    if not value or len(value) > 200 or "\0" in value:
        raise InvalidInput([FieldViolation(path, "is required, at most 200 characters")])
    return value


def cancel_reason(given: int, message: str) -> Reason:
    """Why a client cancels; USER_CANCELLED when it does not say. Raises `InvalidInput` for what is no such reason."""
    violations = Violations()
    reason = read_reason(given) or (Reason.USER_CANCELLED if given == 0 else None)
    allowed = ", ".join(_CANCEL_REASONS)
    violations.check(reason in _CANCEL_REASONS, "reason", f"must be one of {allowed}")
    check_text(violations, message, "message", 2000)
    violations.raise_if_any()
    return reason or Reason.USER_CANCELLED


async def follow(
    database: Database,
    topics: Sequence[str],
    read: Callable[[Session], tuple[M, bool]],
    *,
    poll_seconds: float = POLL_SECONDS,
    rest_seconds: float = 0.0,
) -> AsyncIterator[M]:
    """What ``read`` finds now and after every change, until it says that the last one was final.

    Commits of this process that touch a topic wake it at once; those of another process are seen within
    ``poll_seconds``. What changes within ``rest_seconds`` after a look is found together.
    """
    with database.news.subscribe(topics) as news:
        last: M | None = None
        while True:
            message, final = await database.run_read(read)
            if message != last:
                yield message
                last = message
            if final:
                return
            if rest_seconds:
                await asyncio.sleep(rest_seconds)
            await news.wait(poll_seconds)
