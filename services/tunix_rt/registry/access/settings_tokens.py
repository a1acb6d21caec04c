"""Tokens that stand in the registry's settings: the first administrator's, and one of each service, from files.

They are rows as other tokens are, so that one path checks, lists and revokes them all. A token that is no longer in the
settings is revoked; one that was revoked stays so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.contract.digests import sha256_digest
from tunix_rt.contract.identifiers import NAME
from tunix_rt.errors import FailedPrecondition, TunixError
from tunix_rt.observability.logs import get_logger, protect
from tunix_rt.registry.access.tables import PrincipalRow, TokenRow
from tunix_rt.registry.access.tokens import live_tokens
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.rows import new_id, utc_now
from tunix_rt.rpc.auth import PERMISSIONS, Role, check_token_strength

BOOTSTRAP: Final = "bootstrap"
POLL_SECONDS: Final = 5.0
_SETTINGS: Final = "settings"
_log = get_logger(__name__)


@dataclass(frozen=True)
class Given:
    """A principal of the settings: its roles, and the tokens that are accepted of it."""

    roles: Sequence[Role]
    tokens: Sequence[str]
    kind: str = "service"


def read_settings_tokens(bootstrap: str | None, directory: Path | None) -> dict[str, Given]:
    """The principals of the settings by name.

    ``bootstrap`` administers, and also works while no service has a token of its own. A file NAME or NAME-SUFFIX of
    ``directory`` holds tokens of the service NAME, one a line, with the role NAME: the first is what the service
    presents, the others are accepted as long as they stand there. Raises `FailedPrecondition` for a weak token and for
    a file that is no service's.
    """
    services = _read_directory(directory) if directory is not None else {}
    found = dict(services)
    if bootstrap:
        check_token_strength(bootstrap)
        found[BOOTSTRAP] = Given(("admin",) if services else ("admin", "worker"), (bootstrap,), "user")
    for given in found.values():
        for token in given.tokens:
            protect(token)
    return found


class TokenSettings(Protocol):
    """Where the tokens stand."""

    @property
    def token_text(self) -> str | None: ...
    @property
    def service_tokens_dir(self) -> Path | None: ...


def store_settings_tokens(session: Session, given: Mapping[str, Given]) -> None:
    """Make the rows agree with the settings."""
    known = session.scalars(
        select(col(TokenRow.principal)).where(col(TokenRow.from_settings), col(TokenRow.revoke_time).is_(None))
    )
    for name in sorted({*known, *given}):
        wanted = given.get(name)
        digests = {sha256_digest(token) for token in wanted.tokens} if wanted else set()
        if wanted is not None:
            _store_principal(session, name, wanted)
        for row in live_tokens(session, name):
            if row.from_settings and row.digest not in digests:
                row.revoke_time = utc_now()
                session.add(row)
        for digest in sorted(digests):
            _store_token(session, name, digest)


async def follow_settings_tokens(
    database: Database,
    settings: TokenSettings,
    stored: Mapping[str, Given],
    stop: asyncio.Event,
    changed: Callable[[], None],
) -> None:
    """Read the files again every few seconds until ``stop`` is set; ``stored`` is what the rows agree with. Calls
    ``changed`` when the rows are others.

    What cannot be read is logged, and changes nothing.
    """

    def read() -> dict[str, Given]:
        return read_settings_tokens(settings.token_text, settings.service_tokens_dir)

    while not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), POLL_SECONDS)
        try:
            found = await asyncio.to_thread(read)
            if found != stored:
                await database.run_write(partial(store_settings_tokens, given=found))
                changed()
                _log.info("the services' tokens were read again", services=sorted(found))
                stored = found
        except (OSError, TunixError) as error:
            _log.error("the services' tokens cannot be read; the former ones go on", error=str(error))


def _read_directory(directory: Path) -> dict[str, Given]:
    found: dict[str, Given] = {}
    for path in sorted(directory.iterdir()):
        if (
            path.name.startswith(".") or not path.is_file()
        ):  # Kubernetes keeps hidden directories beside a secret's files
            continue
        role = next((role for role in PERMISSIONS if role == path.name.partition("-")[0]), None)
        if role is None or role in ("viewer", "editor", "approver", "admin") or NAME.fullmatch(path.name) is None:
            raise FailedPrecondition(f"{path} is named after no service: trainer, evaluator, tuner or inferencer")
        tokens = tuple(path.read_text(encoding="utf-8").split())
        for token in tokens:
            check_token_strength(token)
        found[path.name] = Given((role,), tokens)
    return found


def _store_principal(session: Session, name: str, wanted: Given) -> None:
    row = session.get(PrincipalRow, name)
    if row is None:
        row = PrincipalRow(name=name, kind=wanted.kind, create_time=utc_now(), created_by=_SETTINGS)
    elif row.created_by != _SETTINGS:
        raise FailedPrecondition(f"the settings hold a token of {name!r}, which is the name of another principal")
    if row.roles != sorted(wanted.roles):
        row.roles = sorted(wanted.roles)
    session.add(row)
    session.flush()


def _store_token(session: Session, name: str, digest: str) -> None:
    row = session.scalars(select(TokenRow).where(col(TokenRow.digest) == digest)).first()
    if row is None:
        row = TokenRow(
            id=new_id("tok"),
            digest=digest,
            principal=name,
            description="in the registry's settings",
            from_settings=True,
            create_time=utc_now(),
            created_by=_SETTINGS,
        )
        session.add(row)
    elif row.principal != name:
        raise FailedPrecondition(f"the token of {name!r} in the settings is also one of {row.principal!r}")
