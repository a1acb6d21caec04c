"""Rules of principals: how they are made, changed and disabled."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy.orm import Session

from tunix_rt.contract.identifiers import POOL
from tunix_rt.errors import Conflict, FieldViolation, InvalidInput, NotFound, Violations
from tunix_rt.registry.access.messages import ROLES, read_roles
from tunix_rt.registry.access.tables import PrincipalRow
from tunix_rt.registry.kernel.fields import check_name
from tunix_rt.registry.kernel.rows import check_etag, lock_name, utc_now
from tunix_rt.v1 import access_pb2 as pb

_KINDS: Final = {pb.PRINCIPAL_KIND_USER: "user", pb.PRINCIPAL_KIND_SERVICE: "service"}
CHANGEABLE: Final = ("roles", "pools", "disabled", "project")
# They serve every project.
_OF_THE_INSTANCE: Final = ("admin", "inferencer")
_MAX_POOLS: Final = 64


def check_create(request: pb.CreatePrincipalRequest) -> None:
    """Raises `InvalidInput` naming every field of the principal that cannot be."""
    violations, given = Violations(), request.principal
    check_name(violations, given.name, "principal.name")
    violations.check(given.kind in _KINDS, "principal.kind", "must be USER or SERVICE")
    _check_roles(violations, given.roles)
    _check_pools(violations, given.pools)
    _check_project(violations, given.project)
    violations.raise_if_any()
    _check_instance(given.project, read_roles(given.roles) or ())


def check_update(request: pb.UpdatePrincipalRequest) -> None:
    """Raises `InvalidInput` naming the mask, and every field in it that cannot be."""
    violations, given, paths = Violations(), request.principal, request.update_mask.paths
    violations.check(bool(paths), "update_mask", f"must name some of {', '.join(CHANGEABLE)}")
    for path in paths:
        violations.check(path in CHANGEABLE, "update_mask", f"{path!r} is none of {', '.join(CHANGEABLE)}")
    if "roles" in paths:
        _check_roles(violations, given.roles)
    if "pools" in paths:
        _check_pools(violations, given.pools)
    if "project" in paths:
        _check_project(violations, given.project)
    violations.raise_if_any()


def create_principal(session: Session, given: pb.Principal, *, actor: str) -> PrincipalRow:
    """A new principal, without tokens. Raises `Conflict` for a name in use."""
    return add_principal(
        session,
        given.name,
        kind=_KINDS[given.kind],
        roles=read_roles(given.roles) or (),
        pools=sorted(set(given.pools)),
        project=given.project,
        actor=actor,
    )


def add_principal(
    session: Session,
    name: str,
    *,
    kind: str,
    roles: Collection[str],
    pools: Sequence[str] = (),
    project: str = "",
    actor: str,
) -> PrincipalRow:
    """A principal's row. Raises `Conflict` for a name in use."""
    lock_name(session, "principal", name)
    if session.get(PrincipalRow, name) is not None:
        raise Conflict(f"principal {name!r} exists")
    row = PrincipalRow(
        name=name,
        kind=kind,
        roles=sorted(roles),
        pools=list(pools),
        project=project,
        create_time=utc_now(),
        created_by=actor,
    )
    session.add(row)
    session.flush()
    return row


def get_principal(session: Session, name: str) -> PrincipalRow:
    """The principal's row. Raises `NotFound`."""
    row = session.get(PrincipalRow, name)
    if row is None:
        raise NotFound(f"there is no principal {name!r}")
    return row


def update_principal(session: Session, given: pb.Principal, paths: Collection[str]) -> PrincipalRow:
    """The principal with the fields of ``paths`` as given. Raises `NotFound`, `Aborted` for an old etag, and
    `InvalidInput` for a role that a project's principal cannot have."""
    lock_name(session, "principal", given.name)
    row = get_principal(session, given.name)
    check_etag(given.etag, row)
    if "roles" in paths:
        row.roles = read_roles(given.roles) or []
    if "pools" in paths:
        row.pools = sorted(set(given.pools))
    if "disabled" in paths:
        row.disabled = given.disabled
    if "project" in paths:
        row.project = given.project
    _check_instance(row.project, row.roles)
    row.revision += 1
    session.add(row)
    session.flush()
    return row


def _check_roles(violations: Violations, values: Sequence[int]) -> None:
    violations.check(bool(read_roles(values)), "principal.roles", f"must be some of {', '.join(ROLES)}")


def _check_pools(violations: Violations, pools: Sequence[str]) -> None:
    violations.check(len(pools) <= _MAX_POOLS, "principal.pools", f"at most {_MAX_POOLS}")
    for index, pool in enumerate(pools[:_MAX_POOLS]):
        violations.check(
            POOL.fullmatch(pool) is not None, f"principal.pools[{index}]", "is no name of a pool, such as gpu-h100"
        )


def _check_project(violations: Violations, project: str) -> None:
    if project:
        check_name(violations, project, "principal.project")


def _check_instance(project: str, roles: Collection[str]) -> None:
    """Raises `InvalidInput` for a principal of a project with a role that serves every project."""
    wrong = [role for role in _OF_THE_INSTANCE if role in roles]
    if project and wrong:
        description = f"must be empty: the role {wrong[0]} is of the whole instance, not of a project"
        raise InvalidInput([FieldViolation("principal.project", description)])
