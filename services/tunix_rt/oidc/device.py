"""Signing in at a terminal: the device authorization grant (RFC 8628)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunix_rt.errors import FailedPrecondition, PermissionDenied, Transient
from tunix_rt.oidc.discovery import Web

GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
# RFC 8628, sections 3.2 and 3.5: seconds between questions unless the issuer says otherwise, and what "slow_down" adds.
_INTERVAL: Final = 5.0
_SLOWER: Final = 5.0


@dataclass(frozen=True)
class Prompt:
    """What the person has to do, in any browser, within ``seconds``."""

    url: str
    code: str
    # The URL with the code in it; "" where the issuer gives none.
    complete_url: str
    seconds: float


def sign_in(
    web: Web,
    issuer: str,
    client_id: str,
    scopes: str,
    show: Callable[[Prompt], None],
    *,
    wait: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """The ID token of the person who follows the prompt, or the access token where the issuer gives no ID token.

    Asks no more often than the issuer allows. Raises `FailedPrecondition` for an issuer without the grant or one that
    does not know the client, and when nobody answers in time; `PermissionDenied` when the person says no.
    """
    metadata = web.discover(issuer)
    if not metadata.device_authorization_endpoint or not metadata.token_endpoint:
        raise FailedPrecondition(f"{issuer} offers no device authorization grant")
    status, begun = web.fetch(metadata.device_authorization_endpoint, {"client_id": client_id, "scope": scopes})
    device_code = begun.get("device_code")
    if status != 200 or not isinstance(device_code, str):
        raise FailedPrecondition(f"{issuer} refuses the client {client_id!r}: {_reason(begun, status)}")
    prompt = _prompt(begun)
    show(prompt)
    interval = _number(begun.get("interval"), _INTERVAL)
    end = clock() + prompt.seconds
    while clock() + interval < end:
        wait(interval)
        form = {"grant_type": GRANT, "device_code": device_code, "client_id": client_id}
        try:
            status, answer = web.fetch(metadata.token_endpoint, form)
        except Transient:
            interval *= 2  # RFC 8628, section 3.5: exponential backoff when there is no answer
            continue
        token = answer.get("id_token") or answer.get("access_token")
        if status == 200 and isinstance(token, str):
            return token
        match answer.get("error"):
            case "authorization_pending":
                pass
            case "slow_down":
                interval += _SLOWER
            case "expired_token":
                break
            case "access_denied":
                raise PermissionDenied(f"{issuer}: the request was turned down")
            case _:
                raise FailedPrecondition(f"{issuer} gives no token: {_reason(answer, status)}")
    raise FailedPrecondition(f"nobody entered the code {prompt.code} at {prompt.url} in time")


def _prompt(begun: Mapping[str, Any]) -> Prompt:
    texts = [begun.get(name, "") for name in ("verification_uri", "user_code", "verification_uri_complete")]
    url, code, complete = (text if isinstance(text, str) else "" for text in texts)
    if not url or not code:
        raise FailedPrecondition("the issuer names no page and code to sign in with")
    return Prompt(url, code, complete, _number(begun.get("expires_in"), 600.0))


def _number(value: Any, default: float) -> float:
    """Seconds from 0 to an hour."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return min(max(float(value), 0.0), 3600.0) if known else default


def _reason(answer: Mapping[str, Any], status: int) -> str:
    texts = (answer.get("error"), answer.get("error_description"))
    return " ".join(text for text in texts if isinstance(text, str)) or f"status {status}"
