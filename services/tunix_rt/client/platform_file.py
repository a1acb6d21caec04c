"""`platform.json`: how clients find a running local platform: addresses, pids, and the path of the token.

The file holds no secret, only paths of secrets, and is replaced atomically.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import platformdirs

from tunix_rt.errors import FailedPrecondition

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


_KINDS = {field.name: str for field in fields(PlatformFile) if field.type == "str"} | {
    "supervisor_pid": int,
    "addresses": dict,
    "pids": dict,
    "restarts": dict,
    "http": dict,
}


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
    """The platform that runs (or was killed) in ``home``; None where there is none.

    Raises `FailedPrecondition` for a file that is damaged or of another version.
    """
    path = home / FILE_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        file = PlatformFile(**document)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError) as error:  # of UTF-8, of JSON, of fields
        raise FailedPrecondition(
            f"{path} is damaged, or of another version of tunix-rt ({error}): "
            "delete it, or use the version that wrote it"
        ) from error
    wrong = [name for name, kind in _KINDS.items() if not isinstance(getattr(file, name), kind)]
    if wrong:
        raise FailedPrecondition(f"{path} is damaged: {', '.join(wrong)} cannot be read; delete it")
    return file
