"""Waiting out a registry that is away or full: exponential backoff with jitter, without an end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tunix_rt.errors import Exhausted, Transient
from tunix_rt.observability.logs import get_logger

T = TypeVar("T")
_FIRST_SECONDS = 0.2
_LONGEST_SECONDS = 3.0
_log = get_logger(__name__)


async def until_answered(make: Callable[[], Awaitable[T]]) -> T:
    """The answer of ``make()``, called again while it raises `Transient` or `Exhausted`. Other errors pass through."""
    wait = _FIRST_SECONDS
    warned = False
    while True:
        try:
            return await make()
        except (Transient, Exhausted) as error:
            if not warned:
                _log.warning("waiting for the registry", error=str(error))
            warned = True
            least = error.retry_after_seconds if isinstance(error, Exhausted) else 0.0
        await asyncio.sleep(max(wait, least) * random.uniform(0.75, 1.25))
        wait = min(2 * wait, _LONGEST_SECONDS)
