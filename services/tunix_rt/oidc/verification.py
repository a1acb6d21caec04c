"""Checks tokens of an issuer: signature, issuer, audience and times (RFC 7519; OpenID Connect Core 1.0, 3.1.3.7)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidKeyIdError, JoseError
from joserfc.jwk import GuestProtocol, Key, KeySet, import_key
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

from tunix_rt.errors import TunixError, Unauthenticated
from tunix_rt.observability.logs import get_logger
from tunix_rt.oidc.discovery import Metadata

# Signatures with a public key only: what is published can sign nothing.
ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
_KEY_TYPES: Final = ("RSA", "EC", "OKP")
MAX_KEYS: Final = 100
# Clocks may differ by this many seconds.
LEEWAY_SECONDS: Final = 60
# Keys are fetched again after this long, and for a key that is not among them at most this often.
KEYS_SECONDS: Final = 3600.0
RETRY_SECONDS: Final = 30.0
_log = get_logger(__name__)


class Fetcher(Protocol):
    """As `tunix_rt.oidc.discovery.Web`."""

    def discover(self, issuer: str) -> Metadata: ...
    def fetch(self, url: str) -> tuple[int, Mapping[str, Any]]: ...


class _UnknownKey(Unauthenticated):
    """The token names a key that is not among the known ones."""


@dataclass(frozen=True)
class _Keys:
    keys: KeySet
    # Of `time.monotonic`.
    fetched: float


class TokenVerifier:
    """Checks tokens that ``issuer`` made for one of ``audiences``. The issuer's keys are fetched when they are needed,
    and known ones go on while it cannot be reached."""

    def __init__(
        self,
        issuer: str,
        audiences: Sequence[str],
        web: Fetcher,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] | None = None,
    ) -> None:
        self._issuer = issuer
        self._web = web
        self._clock = clock
        self._found: _Keys | None = None
        self._tried = float("-inf")
        self._fetching = asyncio.Lock()
        self._registry = JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
        self._claims = JWTClaimsRegistry(
            now=now,
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "values": list(audiences)},
            sub={"essential": True},
            exp={"essential": True},
        )

    async def claims(self, token: str) -> Mapping[str, Any]:
        """What the token says. Raises `Unauthenticated` with the reason."""
        if self._found is None or self._clock() - self._found.fetched > KEYS_SECONDS:
            await self._fetch()
        before = self._found
        try:
            return self._read(token)
        except _UnknownKey:
            await self._fetch()
            if self._found is before:
                raise
        return self._read(token)

    def _read(self, token: str) -> Mapping[str, Any]:
        if self._found is None:
            raise Unauthenticated(f"the keys of {self._issuer} are not known: it cannot be reached")
        keys = self._found.keys

        def key(guest: GuestProtocol) -> Key:
            header = guest.headers()
            return keys.get_by_kid(header.get("kid"), {"use": "sig", "alg": header["alg"]})

        try:
            found = jwt.decode(token, key, algorithms=list(ALGORITHMS), registry=self._registry)
            self._claims.validate(found.claims)
        except InvalidKeyIdError:
            raise _UnknownKey(f"the token is signed with no key that {self._issuer} publishes") from None
        except ExpiredTokenError:
            raise Unauthenticated("the token has expired: sign in again (tunix-rt access login)") from None
        except JoseError as error:
            raise Unauthenticated(f"the token is refused: {error.description or error.error}") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise Unauthenticated(f"the token is no signed JWT: {type(error).__name__}") from None
        return found.claims

    async def _fetch(self) -> None:
        async with self._fetching:
            if self._clock() - self._tried < RETRY_SECONDS:
                return
            self._tried = self._clock()
            try:
                keys = await asyncio.to_thread(self._download)
            except TunixError as error:
                _log.error("the issuer's keys cannot be fetched", issuer=self._issuer, error=str(error))
                return
            self._found = _Keys(keys, self._clock())

    def _download(self) -> KeySet:
        status, found = self._web.fetch(self._web.discover(self._issuer).jwks_uri)
        given = found.get("keys")
        known: list[Key] = []
        for data in given[:MAX_KEYS] if status == 200 and isinstance(given, list) else []:
            if isinstance(data, dict) and data.get("kty") in _KEY_TYPES and data.get("use", "sig") == "sig":
                try:
                    known.append(import_key(data))
                except (JoseError, ValueError, TypeError, KeyError) as error:
                    _log.warning("a key of the issuer cannot be read", issuer=self._issuer, error=str(error))
        return KeySet(known)
