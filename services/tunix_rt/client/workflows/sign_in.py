"""Signing in at an OpenID Connect issuer, from a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tunix_rt.oidc import device
from tunix_rt.oidc.discovery import Web
from tunix_rt.rpc.settings import TlsSettings


def sign_in(
    issuer: str,
    client_id: str,
    *,
    show: Callable[[device.Prompt], None],
    scopes: str = "openid profile email",
    ca_file: Path | None = None,
) -> str:
    """A token of the issuer for the person who follows what ``show`` is given. It is good for minutes, so make a
    session of it: ``TunixClient(token=…).access.create_session()``. Raises as `tunix_rt.oidc.device.sign_in`.
    """
    return device.sign_in(Web(ca_file, insecure=TlsSettings().insecure), issuer, client_id, scopes, show)
