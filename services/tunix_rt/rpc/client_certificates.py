"""Whom a client certificate stands for: its common name is the name of a principal.

Two rules, both off by default and only with a CA (`TlsSettings`): tokens are bound to certificates, and services may
call with their certificate alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tunix_rt.errors import PermissionDenied
from tunix_rt.rpc.auth import Principal
from tunix_rt.rpc.settings import TlsSettings

# What `tunix-rt certs init` makes for people, who share it, and for the registry, whose token is the bootstrap one.
SHARED: Final = "client"
_REGISTRY: Final = {"bootstrap": "registry"}


def check_bound(principal: Principal, certificate: str, tls: TlsSettings) -> None:
    """Raises `PermissionDenied` for a principal's token that comes with the certificate of another, where
    ``bind_principals`` is set. People may share the certificate "client"."""
    if not tls.bind_principals:
        return
    accepted = {principal.name, *([SHARED] if principal.kind == "user" else [])}
    accepted |= {_REGISTRY[principal.name]} if principal.name in _REGISTRY else set()
    if certificate not in accepted:
        raise PermissionDenied(
            f"a token of {principal.name!r} is accepted with the client certificate of {' or '.join(sorted(accepted))} "
            f"only, and this call came with that of {certificate or 'nobody'}"
        )


def common_name(certificate: Mapping[str, Any] | None) -> str:
    """The common name in what `ssl.SSLObject.getpeercert` gives, else the first alternative name; "" without one."""
    found = certificate or {}
    names = [value for part in found.get("subject", ()) for key, value in part if key == "commonName"]
    names += [value for _, value in found.get("subjectAltName", ())]
    return str(names[0]) if names else ""
