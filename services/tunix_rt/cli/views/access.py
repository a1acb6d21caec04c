"""Principals, tokens and the audit log in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tunix_rt.cli import formats, printing

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.client.resources.access import AccessToken, AuditEvent, Caller, NewToken, Principal


def caller(found: Caller) -> RenderableType:
    return printing.fields(
        [
            ("principal", formats.escaped(found.principal)),
            ("kind", found.kind.lower()),
            ("roles", _words(found.roles)),
            ("permissions", _words(found.permissions)),
            ("pools", formats.joined(map(formats.escaped, found.pools)) or "all"),
            ("project", formats.escaped(found.project) or "all"),
            ("token", found.token_id),
            ("expires", formats.local_time(found.expire_time) or "never"),
        ]
    )


def principals(items: Iterable[Principal]) -> RenderableType:
    rows = [
        (
            formats.escaped(item.name),
            item.kind.lower(),
            _words(item.roles),
            formats.joined(map(formats.escaped, item.pools)),
            formats.escaped(item.project),
            "disabled" if item.disabled else "",
            formats.local_time(item.create_time),
            formats.escaped(item.created_by),
        )
        for item in items
    ]
    return printing.table(["name", "kind", "roles", "pools", "project", "state", "created", "by"], rows)


def tokens(items: Iterable[AccessToken]) -> RenderableType:
    rows = [
        (
            item.id,
            formats.escaped(item.principal),
            _words(item.scopes) or "all",
            "revoked" if item.revoke_time else formats.local_time(item.expire_time) or "never",
            formats.local_time(item.last_use_time) or "never",
            formats.escaped(f"session of {item.parent_id}" if item.parent_id else item.description, 40),
        )
        for item in items
    ]
    return printing.table(["id", "principal", "scopes", "expires", "last used", "description"], rows)


def new_token(found: NewToken) -> RenderableType:
    return printing.fields(
        [
            ("token", found.secret),
            ("id", found.token.id),
            ("principal", formats.escaped(found.token.principal)),
            ("expires", formats.local_time(found.token.expire_time)),
            ("", "It is shown this once."),
        ]
    )


def audit(items: Iterable[AuditEvent]) -> RenderableType:
    rows = [
        (
            item.sequence,
            formats.local_time(item.time),
            formats.escaped(item.principal) or "–",
            item.method.removeprefix("tunix_rt.v1.").replace("Service/", " "),
            formats.escaped(item.resource, 40),
            f"{item.outcome}{f' ×{item.count}' if item.count > 1 else ''}",
            formats.escaped(item.project) or "–",
            formats.escaped(item.peer),
        )
        for item in items
    ]
    columns = ["#", "time", "principal", "call", "about", "outcome", "project", "from"]
    return printing.table(columns, rows, numbers=["#"])


def verification(found: Mapping[str, Any]) -> RenderableType:
    """What became of the chain."""
    verdict = "[green]unbroken[/green]" if found["ok"] else "[red]broken[/red]"
    problems = [("", formats.escaped(problem)) for problem in found["problems"]]
    return printing.fields(
        [("chain", verdict), ("events", found["events"]), ("last digest", found["last_digest"]), *problems]
    )


def _words(values: Iterable[str]) -> str:
    return ", ".join(value.lower() for value in values)
