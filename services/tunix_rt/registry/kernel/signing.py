"""The registry's signature: an Ed25519 key in a file that only the registry's user reads, made at the first start."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from sqlalchemy.orm import Session

from tunix_rt.contract.signatures import key_id, public_key_text
from tunix_rt.errors import FailedPrecondition
from tunix_rt.registry.kernel.messages import timestamp
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.kernel.signing_tables import SigningKeyRow
from tunix_rt.v1 import common_pb2, models_pb2

SIGNER: Final = "tunix_rt.signer"


class Signer:
    """Signs with one key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key_id: Final = key_id(raw)
        self.public_key: Final = public_key_text(raw)

    def sign(self, statement: bytes) -> str:
        """The signature in base64."""
        return base64.b64encode(self._key.sign(statement)).decode()


def open_signer(path: Path) -> Signer:
    """The signer whose key is at ``path``; a key is made there if there is none.

    Raises `FailedPrecondition` for a file that others may read, that is no Ed25519 key, or that cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_key(path)
        # A group may read it: that is how Kubernetes mounts secrets.
        if path.stat().st_mode & 0o027:
            raise FailedPrecondition(f"others may read or change the signing key {path}: chmod 600 it")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise FailedPrecondition(f"the signing key {path} cannot be used: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise FailedPrecondition(f"{path} is not an Ed25519 key")
    return Signer(key)


def sign(session: Session, statement: bytes) -> tuple[str, str]:
    """(key id, signature) by the registry's key; both "" where it has none."""
    signer: Signer | None = session.info.get(SIGNER)
    return ("", "") if signer is None else (signer.key_id, signer.sign(statement))


def publish_key(session: Session, signer: Signer) -> None:
    """Make the public key known, if it is new."""
    if session.get(SigningKeyRow, signer.key_id) is None:
        session.add(SigningKeyRow(id=signer.key_id, public_key=signer.public_key, create_time=utc_now()))


def signature_message(key: str, value: str) -> common_pb2.Signature | None:
    """A stored signature; None where nothing was signed."""
    return common_pb2.Signature(key_id=key, value=value) if value else None


def signing_key_message(row: SigningKeyRow) -> models_pb2.SigningKey:
    """A public key."""
    return models_pb2.SigningKey(id=row.id, public_key=row.public_key, create_time=timestamp(row.create_time))


def _make_key(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
