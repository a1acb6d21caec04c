"""Checks the chain of the audit log, all of it, from the answers of the registry alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tunix_rt.contract.audit import FIELDS, broken_links

if TYPE_CHECKING:
    from tunix_rt.client.clients import TunixClient

_MAX_PROBLEMS = 20


def verify_audit(client: TunixClient) -> dict[str, Any]:
    """``ok``, the number of ``events``, the ``last_digest`` (keep it: it shows later whether the end was cut off), and
    up to 20 ``problems``."""
    seen, last = 0, ""

    def events() -> Iterator[dict[str, Any]]:
        nonlocal seen, last
        for event in client.access.audit():
            seen, last = seen + 1, event.digest
            yield {name: getattr(event, name) for name in (*FIELDS, "digest")}

    problems: list[str] = []
    for problem in broken_links(events()):
        if len(problems) < _MAX_PROBLEMS:
            problems.append(problem)
    return {"ok": not problems, "events": seen, "last_digest": last, "problems": problems}
