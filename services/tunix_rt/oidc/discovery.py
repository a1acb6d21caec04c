"""An issuer's metadata and keys, fetched as JSON (OpenID Connect Discovery 1.0, RFC 8414, RFC 7517)."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from tunix_rt.errors import FailedPrecondition, Transient
from tunix_rt.rpc.tls import is_loopback

TIMEOUT_SECONDS: Final = 10.0
MAX_BYTES: Final = 1 << 20
_WELL_KNOWN: Final = "/.well-known/openid-configuration"


@dataclass(frozen=True)
class Metadata:
    """Of an issuer. URLs are "" where it has no such endpoint."""

    issuer: str
    jwks_uri: str
    token_endpoint: str
    device_authorization_endpoint: str


class Web:
    """Fetches JSON from issuers: over TLS unless they are on this machine, without following redirects, at most 1 MiB
    in 10 s. ``ca_file``: whom to trust instead of the system's CAs."""

    def __init__(self, ca_file: Path | None = None, *, insecure: bool = False) -> None:
        self._insecure = insecure
        context = ssl.create_default_context(cafile=ca_file)
        self._opener: OpenerDirector = build_opener(HTTPSHandler(context=context), _NoRedirects)

    def discover(self, issuer: str) -> Metadata:
        """The issuer's metadata. Raises `FailedPrecondition` for what is no issuer, and as `fetch`."""
        status, found = self.fetch(issuer.rstrip("/") + _WELL_KNOWN)
        texts = {name: found.get(name, "") for name in Metadata.__dataclass_fields__}
        if status != 200 or not all(isinstance(text, str) for text in texts.values()):
            raise FailedPrecondition(f"{issuer} publishes no metadata of an OpenID Connect issuer (status {status})")
        if texts["issuer"] != issuer:
            raise FailedPrecondition(f"{issuer} calls itself {texts['issuer']!r}: use the issuer's exact name")
        return Metadata(**texts)

    def fetch(self, url: str, form: Mapping[str, str] | None = None) -> tuple[int, Mapping[str, Any]]:
        """HTTP status and JSON object of a GET, or of a POST of ``form``.

        Raises `FailedPrecondition` for plain HTTP to another machine and for what is no JSON object, `Transient` when
        there is no answer.
        """
        self._check(url)
        body = urlencode(form).encode() if form is not None else None
        request = Request(url, data=body, headers={"Accept": "application/json"})
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                status, content = answer.status, answer.read(MAX_BYTES + 1)
        except HTTPError as error:
            with error:
                status, content = error.code, error.read(MAX_BYTES + 1)
        except (URLError, OSError) as error:
            raise Transient(f"{url}: no answer: {error}") from error
        try:
            found = json.loads(content) if len(content) <= MAX_BYTES else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            if status >= 500:
                raise Transient(f"{url}: status {status}")
            raise FailedPrecondition(f"{url} answers no JSON object of at most 1 MiB (status {status})")
        return status, found

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError as error:
            raise FailedPrecondition(f"{url!r} is no URL: {error}") from error
        plain_allowed = self._insecure or is_loopback(f"[{host}]:0")
        if not host or parts.scheme not in ({"https", "http"} if plain_allowed else {"https"}):
            raise FailedPrecondition(f"{url!r}: an issuer beyond this machine needs https")


class _NoRedirects(HTTPRedirectHandler):
    """A redirect is an answer like another: the issuer's metadata name its endpoints."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None
