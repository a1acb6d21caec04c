"""`platform.json`: how clients find a running local platform: addresses, pids, and the path of the token.

The file holds no secret, only paths of secrets, and is replaced atomically.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import platformdirs

FILE_NAME = "platform.json"


@dataclass(frozen=True)
class PlatformFile:
    """One snapshot of a platform. ``state`` is "starting", "ready" or "stopping"."""

    state: str
    supervisor_pid: int
    token_path: str
    nats_url: str
    nats_user: str
    nats_password_path: str
    start_time: str
    addresses: Mapping[str, str] = field(default_factory=dict)
    pids: Mapping[str, int] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)
    # Base URLs of the processes that serve HTTP.
    http: Mapping[str, str] = field(default_factory=dict)

    def token(self) -> str:
        """The bearer token, read from its own file."""
        return Path(self.token_path).read_text(encoding="utf-8").strip()


def default_home() -> Path:
    """Where the platform lives by default (``~/.local/share/tunix-rt`` on Linux)."""
    return Path(platformdirs.user_data_dir("tunix-rt", appauthor=False))


def write_platform_file(home: Path, content: PlatformFile) -> None:
    """Replace the file in one step, so that readers never see a partial file."""
    text = json.dumps(asdict(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    temporary = home / f".{FILE_NAME}.{os.getpid()}"
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(home / FILE_NAME)


def read_platform_file(home: Path) -> PlatformFile | None:
    """The platform that runs (or was killed) in ``home``; None where there is none or the file is not ours."""
    try:
        document = json.loads((home / FILE_NAME).read_text(encoding="utf-8"))
        return PlatformFile(**document)
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{home / FILE_NAME} is not a platform file of this version: {error}") from error
