"""NATS users' keys: an Ed25519 seed in a file of mode 0600, and the public key for nats-server's configuration."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import nkeys

from tunix_rt.errors import FailedPrecondition

SEED_FILE = "nats.seed"
PASSWORD_FILE = "nats.password"


def public_key(seed: str) -> str:
    """The public key of a user's seed (``SU…``). Raises `FailedPrecondition` for anything else."""
    try:
        pair = nkeys.from_seed(bytearray(seed.strip().encode()))
        text: str = pair.public_key.decode()
    except (nkeys.NkeysError, ValueError) as error:
        raise FailedPrecondition(f"not a seed of a NATS user: {type(error).__name__}") from error
    if not text.startswith("U"):
        raise FailedPrecondition("not a seed of a NATS user, but of another kind of NATS key")
    return text


def read_or_create_seed(path: Path) -> str:
    """The seed in ``path``; a new one on first use."""
    return read_or_create(path, nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER).decode())


def read_or_create_password(path: Path) -> str:
    """The password in ``path``; 32 random bytes on first use."""
    return read_or_create(path, secrets.token_urlsafe(32))


def read_or_create(path: Path, fresh: str) -> str:
    """The content of ``path``; ``fresh`` is written there, mode 0600, if there is no such file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="utf-8").strip()
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(fresh + "\n")
    return fresh
