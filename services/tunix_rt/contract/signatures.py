"""Ed25519 (RFC 8032) public keys as text, their ids, and the verification of signatures."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tunix_rt.errors import FieldViolation, InvalidInput

_PREFIX: Final = "ed25519:"
_KEY_BYTES: Final = 32


def public_key_text(raw: bytes) -> str:
    """A public key of 32 bytes as people pass it on: "ed25519:" and base64."""
    return _PREFIX + base64.b64encode(raw).decode()


def read_public_key(text: str) -> bytes:
    """The inverse of `public_key_text`. Raises `InvalidInput`."""
    try:
        raw = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _KEY_BYTES or not text.strip().startswith(_PREFIX):
        raise InvalidInput([FieldViolation("key", f"{text[:80]!r} is not {_PREFIX} and the base64 of 32 bytes")])
    return raw


def key_id(raw: bytes) -> str:
    """A short name of a public key."""
    return f"key-{hashlib.sha256(raw).hexdigest()[:16]}"


def is_signed_by(public_key: bytes, signature: str, statement: bytes) -> bool:
    """Whether ``signature`` (base64) is that of ``statement`` by the key."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(base64.b64decode(signature, validate=True), statement)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
