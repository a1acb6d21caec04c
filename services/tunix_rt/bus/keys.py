"""NATS users' keys: an Ed25519 seed in a file of mode 0600, and the public key for nats-server's configuration."""

from __future__ import annotations

import secrets
from pathlib import Path

import nkeys

from tunix_rt.errors import FailedPrecondition
from tunix_rt.rpc.secret_files import read_or_create

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
