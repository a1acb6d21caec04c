"""Which principal may carry out which jobs. That it may call the method at all is asked before, from the proto."""

from __future__ import annotations

from tunix_rt.errors import PermissionDenied
from tunix_rt.rpc.auth import ANONYMOUS, Principal


def check_may_claim(principal: Principal, kind: str, pool: str) -> None:
    """Raise `PermissionDenied` unless ``principal`` carries out jobs of ``kind`` ("run", "evaluation", "sweep").

    ``pool`` is the hardware pool that the job waits for, "" where its kind has none. Where auth is off nobody has a
    role, and everybody may do everything. What is reported later needs no check of its own: it needs the lease, which
    only the claim gives.
    """
    if principal is not ANONYMOUS and not principal.allows("worker"):
        where = f" of pool {pool!r}" if pool else ""
        raise PermissionDenied(f"{principal.name!r} may not carry out a {kind}{where}")
