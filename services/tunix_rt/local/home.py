"""The directory of one local platform: layout, secrets (mode 0600) and the lock that keeps a second platform out."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from tunix_rt.bus.keys import PASSWORD_FILE, SEED_FILE
from tunix_rt.bus.users import READER
from tunix_rt.errors import FailedPrecondition

LOCK_FILE = "platform.lock"


@dataclass(frozen=True)
class Home:
    """Where everything of one platform lies."""

    path: Path

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def nats_store(self) -> Path:
        return self.path / "nats"

    @property
    def nats_config(self) -> Path:
        return self.path / "nats-server.conf"

    @property
    def token_path(self) -> Path:
        return self.path / "token"

    @property
    def service_tokens(self) -> Path:
        """One file for each service that calls the registry, named after it."""
        return self.path / "tokens"

    @property
    def secrets(self) -> Path:
        """A folder for each process with what only it may read."""
        return self.path / "secrets"

    def nats_seed_path(self, user: str) -> Path:
        return self.secrets / user / SEED_FILE

    @property
    def nats_password_path(self) -> Path:
        """The password of `bus.users.READER`, for automation."""
        return self.secrets / READER / PASSWORD_FILE

    @property
    def artifacts_uri(self) -> str:
        return (self.path / "artifacts").as_uri()

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.path / 'registry.sqlite'}"

    def log_path(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def prepare(self) -> None:
        """Create the directories, readable by their owner only."""
        own = (self.logs, self.nats_store, self.service_tokens, self.secrets, self.path / "artifacts")
        for directory in (self.path, *own):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Of a release whose services shared one NATS user.
        (self.path / "nats.password").unlink(missing_ok=True)


class HomeLock:
    """An advisory lock on the home, held by the supervisor as long as it lives (the kernel frees it if it dies)."""

    def __init__(self, home: Path) -> None:
        self._path = home / LOCK_FILE
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock and write our pid into it; raises `FailedPrecondition` naming the holder."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            home = self._path.parent
            raise FailedPrecondition(
                f"a platform is already running in {home} (supervisor pid {lock_holder(home)}); "
                "stop it with `tunix-rt down`, or choose another --home"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def lock_holder(home: Path) -> int | None:
    """Pid of the supervisor that holds ``home``; None if there is none."""
    try:
        descriptor = os.open(home / LOCK_FILE, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode().strip()
        return int(text) if text else None
    else:
        return None
    finally:
        os.close(descriptor)
