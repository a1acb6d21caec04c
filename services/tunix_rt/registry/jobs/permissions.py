"""Which principal may carry out which jobs. That it may call the method at all is asked before, from the proto."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tunix_rt.errors import PermissionDenied
from tunix_rt.rpc.auth import ANONYMOUS, Permission, Principal

# The permission that the worker of each kind of job has.
_PERMISSIONS: Final[Mapping[str, Permission]] = {"run": "train", "evaluation": "evaluate", "sweep": "tune"}


def check_may_claim(principal: Principal, kind: str, pool: str, project: str) -> None:
    """Raise `PermissionDenied` unless ``principal`` carries out jobs of ``kind`` ("run", "evaluation", "sweep"), in
    ``pool`` and ``project``.

    ``pool`` is the hardware pool that the job waits for, "" where its kind has none. Where auth is off nobody has a
    role, and everybody may do everything. What is reported later needs no check of its own: it needs the lease, which
    only the claim gives.
    """
    if principal is ANONYMOUS:
        return
    if not principal.allows(_PERMISSIONS[kind]):
        raise PermissionDenied(f"{principal.name!r} may not carry out a {kind}")
    if principal.project not in ("", project):
        raise PermissionDenied(f"{principal.name!r} carries out jobs of project {principal.project!r} only")
    if pool and principal.pools and pool not in principal.pools:
        served = ", ".join(sorted(principal.pools))
        raise PermissionDenied(f"{principal.name!r} serves the pools {served}, not {pool!r}")
