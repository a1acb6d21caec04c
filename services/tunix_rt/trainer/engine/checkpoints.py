"""Checkpoints of one run in a directory: committed atomically, verified before use.

The last few are kept, and the one with the lowest held-out loss. Layout: ``<root>/checkpoints/<run id>/<step>/data/…``
and, committed by the same rename, ``MANIFEST.json`` with the sha256 of every file and the held-out loss. The caller
defines the content of ``data``.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunix_rt.artifacts import StoredFile, directory_digest
from tunix_rt.artifacts.locations import check_name
from tunix_rt.errors import InvalidArtifact

MANIFEST = "MANIFEST.json"
DATA = "data"
FORMAT = 1
STAGING = "tmp-"


@dataclass(frozen=True)
class StoredCheckpoint:
    """A committed checkpoint. ``digest`` is the digest of its ``data`` directory."""

    step: int
    uri: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Best:
    """The checkpointed step with the lowest held-out loss."""

    step: int
    eval_loss: float


class CheckpointDirectory:
    """The checkpoints of one run under a local or mounted directory.

    ``identity`` names run and spec; a checkpoint with another identity is rejected. ``writer`` names the attempt, and
    separates what two attempts write at the same time.
    """

    def __init__(self, root: Path, identity: str, *, keep: int = 2, writer: str = "") -> None:
        self._root, self._identity, self._keep = root, identity, keep
        self._writer = writer or uuid.uuid4().hex

    def clear_staging(self) -> None:
        """Remove incomplete checkpoints of a killed process."""
        for leftover in self._root.glob(f"{STAGING}*"):
            shutil.rmtree(leftover)

    def steps(self) -> list[int]:
        """Steps with a committed checkpoint, newest first, unverified."""
        if not self._root.is_dir():
            return []
        return sorted((int(p.name) for p in self._root.iterdir() if is_step(p.name)), reverse=True)

    def write(
        self, step: int, fill: Callable[[Path], None], *, eval_loss: float | None = None
    ) -> tuple[StoredCheckpoint, list[int]]:
        """Let ``fill`` write into an empty directory, then commit it as ``step`` and remove old checkpoints.

        ``eval_loss``: held-out loss of the state, None if not measured. Returns the checkpoint and the removed steps.
        An existing checkpoint of ``step`` is replaced. The commit is a rename: nothing is visible before.
        """
        stored = self.commit(step, fill, eval_loss=eval_loss)
        return stored, self.retire(step)

    def commit(self, step: int, fill: Callable[[Path], None], *, eval_loss: float | None = None) -> StoredCheckpoint:
        """`write` without removing old checkpoints."""
        staging = self.staging(step).parent
        (staging / DATA).mkdir(parents=True, exist_ok=True)
        fill(staging / DATA)
        digest, files = directory_digest(staging / DATA)
        manifest = {
            "format": FORMAT,
            "identity": self._identity,
            "step": step,
            "digest": digest,
            "eval_loss": eval_loss,
            "files": {f.path: {"sha256": f.digest, "size_bytes": f.size_bytes} for f in files},
        }
        (staging / MANIFEST).write_text(json.dumps(manifest, sort_keys=True, indent=1) + "\n")
        _sync_tree(staging)
        target = self._root / str(step)
        if target.exists():
            target.rename(self._root / f"{STAGING}old-{uuid.uuid4().hex}")
        staging.rename(target)
        _sync(self._root)
        return StoredCheckpoint(step, target.absolute().as_uri(), digest, sum(f.size_bytes for f in files))

    def staging(self, step: int) -> Path:
        """The directory that `commit` passes to ``fill``, for processes that write a part of it."""
        return self._root / f"{STAGING}{step}-{self._writer}" / DATA

    def open(self, step: int) -> Path:
        """The verified ``data`` directory of ``step``. Raises `InvalidArtifact` if it is damaged."""
        return self.verified(self._root / str(step), step, self.manifest(step))

    def verified(self, directory: Path, step: int, manifest: dict[str, Any]) -> Path:
        """The ``data`` directory in ``directory``. Raises `InvalidArtifact` unless it matches ``manifest``."""
        if manifest.get("identity") != self._identity:
            raise InvalidArtifact(
                f"checkpoint {step} belongs to {manifest.get('identity')!r}, not to {self._identity!r}"
            )
        declared = {f.path: (f.digest, f.size_bytes) for f in declared_files(manifest)}
        found = {f.path: (f.digest, f.size_bytes) for f in _files(directory / DATA)}
        for path, (digest, size) in sorted(declared.items()):
            if path not in found:
                raise InvalidArtifact(f"checkpoint {step}: {path} is missing")
            if found[path][1] != size:
                raise InvalidArtifact(
                    f"checkpoint {step}: {path} has {found[path][1]} bytes, expected {size} (truncated?)"
                )
            if found[path][0] != digest:
                raise InvalidArtifact(f"checkpoint {step}: {path} has changed since it was written")
        return directory / DATA

    def manifest(self, step: int) -> dict[str, Any]:
        """The manifest of ``step``. Raises `InvalidArtifact` if it is missing or invalid."""
        return read_manifest(str(step), (self._root / str(step) / MANIFEST).read_bytes)

    def best(self, newest: int) -> Best | None:
        """The checkpoint up to step ``newest`` with the lowest held-out loss; the earliest of a tie."""
        found = []
        for step in self.steps():
            if step <= newest and (loss := self._eval_loss(step)) is not None:
                found.append(Best(step, loss))
        return min(found, key=lambda best: (best.eval_loss, best.step), default=None)

    def _eval_loss(self, step: int) -> float | None:
        try:
            manifest = self.manifest(step)
        except InvalidArtifact:
            # An unreadable checkpoint is not a candidate; `open` reports the error.
            return None
        loss = manifest.get("eval_loss")
        return loss if isinstance(loss, float) and manifest.get("identity") == self._identity else None

    def discard(self, step: int) -> None:
        """Remove ``step``: rename it out of sight, then delete its files."""
        removed = self._root / f"{STAGING}old-{uuid.uuid4().hex}"
        (self._root / str(step)).rename(removed)
        shutil.rmtree(removed)

    def retire(self, newest: int) -> list[int]:
        """Remove all checkpoints up to ``newest`` except the last few and the best. Returns the removed steps."""
        best = self.best(newest)
        older = [step for step in self.steps() if step <= newest][self._keep :]
        retired = [step for step in older if best is None or step != best.step]
        for step in retired:
            self.discard(step)
        for leftover in self._root.glob(f"{STAGING}old-*"):
            shutil.rmtree(leftover)
        return retired


def is_step(name: str) -> bool:
    """Whether ``name`` is the directory name of a committed checkpoint."""
    return name.isascii() and name.isdigit() and len(name) < 20


def read_manifest(name: str, read: Callable[[], bytes]) -> dict[str, Any]:
    """The manifest returned by ``read``. Raises `InvalidArtifact` naming checkpoint ``name`` if it is invalid."""
    try:
        document = json.loads(read())
    except FileNotFoundError as error:
        raise InvalidArtifact(f"checkpoint {name} has no {MANIFEST}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidArtifact(f"checkpoint {name}: {MANIFEST} is not JSON ({error})") from error
    if (
        not isinstance(document, dict)
        or document.get("format") != FORMAT
        or not isinstance(document.get("files"), dict)
    ):
        raise InvalidArtifact(f"checkpoint {name}: {MANIFEST} does not have format {FORMAT}")
    return document


def declared_files(manifest: dict[str, Any]) -> tuple[StoredFile, ...]:
    """The files listed in ``manifest``. Raises `InvalidArtifact` for an invalid entry."""
    found = []
    for path, entry in manifest["files"].items():
        digest, size = (entry.get("sha256"), entry.get("size_bytes")) if isinstance(entry, dict) else (None, None)
        if not isinstance(digest, str) or type(size) is not int or size < 0:
            raise InvalidArtifact(f"{MANIFEST} does not describe the file {path!r}")
        check_name(path)
        found.append(StoredFile(path, digest, size))
    return tuple(found)


def _files(directory: Path) -> tuple[StoredFile, ...]:
    return directory_digest(directory, follow_links=False)[1] if directory.is_dir() else ()


def _sync_tree(directory: Path) -> None:
    for parent, _, names in os.walk(directory):
        for name in names:
            _sync(Path(parent) / name)
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
