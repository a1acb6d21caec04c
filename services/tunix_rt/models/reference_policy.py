"""Which references may be followed: directories of this machine, repositories of a hub, and how much is downloaded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput, NotFound


class ReferencePolicy(BaseSettings):
    """The policy of this installation.

    Whoever may name a model makes the service read it, so what is outside and what is missing get the same answer.
    """

    model_config = SettingsConfigDict(env_prefix="TUNIX_RT_", frozen=True, extra="ignore")

    # Directories from which file:// and gguf:// may be read, separated as in PATH. Empty: the user's home and the
    # system's directory for temporary files. The artifact store and the cache always may.
    model_roots: str = ""
    # Repositories of a hub as patterns, comma-separated: google/*,my-team/*. Empty: none.
    hub_allow: str = "*"
    # Of one repository's files.
    hub_max_gib: float = Field(default=1024.0, gt=0)

    def check_path(self, reference: str, path: Path, always: Iterable[Path] = ()) -> Path:
        """``path`` with links resolved. Raises `NotFound` when it is missing or not below a root."""
        roots = [root.resolve() for root in (*self._roots(), *always)]
        try:
            found = path.resolve(strict=True)
        except (OSError, RuntimeError):
            raise self._missing(reference) from None
        if not _below(found, roots):
            raise self._missing(reference)
        return found

    def check_links(self, reference: str, directory: Path, always: Iterable[Path] = ()) -> None:
        """Raises `InvalidArtifact` for a link in ``directory`` that leads out of every root."""
        roots = [root.resolve() for root in (*self._roots(), *always)]
        for entry in directory.rglob("*"):
            if entry.is_symlink() and not _below(entry.resolve(), roots):
                raise InvalidArtifact(f"{reference}: {entry.name!r} is a link out of the directories of models")

    def check_hub(self, repository: str) -> None:
        """Raises `InvalidInput` for a repository that is not allowed."""
        patterns = [pattern.strip() for pattern in self.hub_allow.split(",") if pattern.strip()]
        if not any(fnmatchcase(repository, pattern) for pattern in patterns):
            description = f"hf://{repository} is not allowed here (TUNIX_RT_HUB_ALLOW is {self.hub_allow!r})"
            raise InvalidInput([FieldViolation("reference", description)])

    @property
    def hub_max_bytes(self) -> int:
        return int(self.hub_max_gib * 2**30)

    def _roots(self) -> list[Path]:
        named = [Path(root) for root in self.model_roots.split(os.pathsep) if root]
        return named or [Path.home(), Path(tempfile.gettempdir())]

    def _missing(self, reference: str) -> NotFound:
        return NotFound(f"{reference} does not exist, or is not in a directory of TUNIX_RT_MODEL_ROOTS")


def _below(path: Path, roots: Iterable[Path]) -> bool:
    return any(path == root or root in path.parents for root in roots)
