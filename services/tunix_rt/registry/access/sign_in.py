"""People of an OpenID Connect issuer: what its tokens say makes principals and their roles.

A principal's name is made of a claim; its roles are what the claims of the token say, each time. It has no tokens of
its own but sessions, which end within hours: what the issuer takes away is soon gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy.orm import Session

from tunix_rt.contract.digests import DIGEST_PREFIX, sha256_digest
from tunix_rt.contract.identifiers import NAME
from tunix_rt.errors import Unauthenticated, Violations
from tunix_rt.oidc.discovery import Web
from tunix_rt.oidc.verification import TokenVerifier
from tunix_rt.registry.access.principals import add_principal
from tunix_rt.registry.access.tables import PrincipalRow
from tunix_rt.registry.access.tokens import SIGNED_IN
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.fields import check_name
from tunix_rt.rpc.auth import Principal, Role
from tunix_rt.rpc.settings import TlsSettings

PREFIX: Final = "oidc-"
# Roles of people; services have tokens in files.
ROLES: Final[tuple[Role, ...]] = ("viewer", "editor", "approver", "admin")
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-")
_MAX_NAME: Final = 64


@dataclass(frozen=True)
class ClaimRules:
    """Which claim names a person, which holds groups (``a.b`` is ``b`` within ``a``), and which group gives a role."""

    name_claim: str
    group_claim: str
    roles: Mapping[str, frozenset[Role]]
    # Of people when they first call; administrators are of the whole instance.
    project: str

    def name(self, claims: Mapping[str, Any]) -> str:
        """The principal's name. Raises `Unauthenticated` without the claim, and for an address nobody has verified."""
        value = _claim(claims, self.name_claim)
        if not isinstance(value, str) or not value:
            raise Unauthenticated(f"the token has no claim {self.name_claim!r}, which names the caller")
        if self.name_claim == "email" and claims.get("email_verified") is not True:
            raise Unauthenticated("the issuer has not verified the token's email address")
        return principal_name(value)

    def granted(self, claims: Mapping[str, Any]) -> frozenset[Role]:
        """The roles of the token's groups."""
        value = _claim(claims, self.group_claim)
        groups = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        return frozenset[Role]().union(*(self.roles.get(each, ()) for each in groups if isinstance(each, str)))


class SignIn:
    """Turns the issuer's tokens into principals, which get a row when they first call."""

    def __init__(self, verifier: TokenVerifier, rules: ClaimRules, database: Database) -> None:
        self._verifier = verifier
        self._rules = rules
        self._database = database

    async def authenticate(self, token: str) -> Principal:
        """Who the token stands for. Raises `Unauthenticated`, also for a disabled principal."""
        claims = await self._verifier.claims(token)
        name, roles = self._rules.name(claims), self._rules.granted(claims)
        row = await self._database.run_read(lambda session: session.get(PrincipalRow, name), statement=True)
        if row is None or (row.roles != sorted(roles) and row.created_by == SIGNED_IN):
            row = await self._database.run_write(
                lambda session: _store(session, name, sorted(roles), self._rules.project)
            )
        if row.created_by != SIGNED_IN:
            raise Unauthenticated(f"the principal {name!r} was made here and is not the issuer's")
        if row.disabled:
            raise Unauthenticated("the bearer token is not known here")
        return Principal(
            name,
            roles,
            token_id=PREFIX + sha256_digest(token).removeprefix(DIGEST_PREFIX)[:24],
            expire_time=datetime.fromtimestamp(claims["exp"], UTC),
            project=row.project,
        )


class SignInSettings(Protocol):
    """As of `tunix_rt.registry.settings.RegistrySettings`."""

    @property
    def oidc_issuer(self) -> str: ...
    @property
    def oidc_audience(self) -> str: ...
    @property
    def oidc_roles(self) -> str: ...
    @property
    def oidc_group_claim(self) -> str: ...
    @property
    def oidc_name_claim(self) -> str: ...
    @property
    def oidc_project(self) -> str: ...
    @property
    def oidc_ca_file(self) -> Path | None: ...
    @property
    def tls(self) -> TlsSettings: ...


def sign_in_of(settings: SignInSettings, database: Database) -> SignIn | None:
    """What the settings ask for; None without an issuer. Raises `InvalidInput` naming every setting that cannot be."""
    if not settings.oidc_issuer:
        return None
    violations = Violations()
    roles = read_roles(settings.oidc_roles, violations)
    audiences = [each.strip() for each in settings.oidc_audience.split(",") if each.strip()]
    violations.check(bool(audiences), "oidc_audience", "is empty: tokens made for other applications would be accepted")
    for name in ("oidc_group_claim", "oidc_name_claim"):
        violations.check(bool(getattr(settings, name)), name, "is empty")
    if settings.oidc_project:
        check_name(violations, settings.oidc_project, "oidc_project")
    violations.raise_if_any()
    web = Web(settings.oidc_ca_file, insecure=settings.tls.insecure)
    rules = ClaimRules(settings.oidc_name_claim, settings.oidc_group_claim, roles, settings.oidc_project)
    return SignIn(TokenVerifier(settings.oidc_issuer, audiences, web), rules, database)


def principal_name(value: str) -> str:
    """``value`` as a name; different values have different names: ``Ann@x.org`` is ``oidc-_41nn_40x.org``."""
    text = PREFIX + "".join(c if c in _PLAIN else "".join(f"_{byte:02x}" for byte in c.encode()) for c in value)
    if len(text) <= _MAX_NAME and NAME.fullmatch(text):
        return text
    return f"{PREFIX}__{sha256_digest(value).removeprefix(DIGEST_PREFIX)[:48]}"


def read_roles(text: str, violations: Violations) -> Mapping[str, frozenset[Role]]:
    """``"ml-team=editor, ml-leads=approver"`` as roles by group; a group may be named more than once. What is no such
    pair becomes a violation."""
    found = dict[str, frozenset[Role]]()
    for part in filter(None, (each.strip() for each in text.split(","))):
        group, _, name = (each.strip() for each in part.rpartition("="))
        role = next((role for role in ROLES if role == name), None)
        if group and role is not None:
            found[group] = found.get(group, frozenset()) | {role}
        else:
            violations.add("oidc_roles", f"{part!r} is not GROUP=ROLE with one of the roles {', '.join(ROLES)}")
    violations.check(bool(found), "oidc_roles", "names no group: nobody who signs in could do anything")
    return found


def _store(session: Session, name: str, roles: list[str], project: str) -> PrincipalRow:
    """The principal's row with ``roles``. Who becomes an administrator leaves its project, and who was one gets it."""
    row = session.get(PrincipalRow, name, with_for_update=True)
    if row is None:
        place = "" if "admin" in roles else project
        return add_principal(session, name, kind="user", roles=roles, project=place, actor=SIGNED_IN)
    if row.created_by == SIGNED_IN and row.roles != roles:
        if ("admin" in roles) != ("admin" in row.roles):
            row.project = "" if "admin" in roles else project
        row.roles = roles
        row.revision += 1
        session.add(row)
        session.flush()
    return row


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return claims.get(path, value)
