"""Where a run's checkpoints live.

In the artifact store, or, when that is remote, mirrored from a local directory to it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec

from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.trainer.engine.checkpoints import (
    MANIFEST,
    CheckpointDirectory,
    StoredCheckpoint,
    read_manifest,
)
from tunix_rt.trainer.job import Job


def open_checkpoints(root_uri: str, job: Job) -> CheckpointDirectory:
    """The checkpoints of ``job``'s run, with what a killed process left behind cleared away."""
    identity = f"{job.run_id} {job.spec_digest}"
    writer = f"attempt-{job.attempt}"
    place = f"checkpoints/{job.run_id}"
    keep = job.hyperparameters.save_total_limit
    checkpoints: CheckpointDirectory
    if root_uri.startswith("file://"):
        checkpoints = CheckpointDirectory(
            Path(unquote(urlsplit(root_uri).path)) / place, identity, keep=keep, writer=writer
        )
    elif job.member is not None:
        problem = "processes that train together need a store that all of them see as files: file://"
        raise InvalidInput([FieldViolation("artifacts_uri", problem)])
    else:
        local = Path(job.cache_dir) / place
        checkpoints = MirroredCheckpoints(local, identity, f"{root_uri}/{place}", keep=keep, writer=writer)
    if job.member is None or job.member.process_id == 0:
        checkpoints.clear_staging()
    return checkpoints


class MirroredCheckpoints(CheckpointDirectory):
    """Checkpoints of a remote store (s3://, gs://): written locally first, uploaded with the manifest last.

    Object stores have no rename; a checkpoint without its manifest does not exist, and every file is verified after
    download.
    """

    def __init__(self, local: Path, identity: str, remote_uri: str, *, keep: int = 2, writer: str = "") -> None:
        super().__init__(local, identity, keep=keep, writer=writer)
        self._local, self._remote_uri = local, remote_uri.rstrip("/")
        filesystem, path = fsspec.core.url_to_fs(self._remote_uri)
        self._fs: Any = filesystem
        self._remote: str = path.rstrip("/")

    def steps(self) -> list[int]:
        if not self._fs.exists(self._remote):
            return []
        self._fs.invalidate_cache()
        names = (str(path).rstrip("/").rsplit("/", 1)[-1] for path in self._fs.ls(self._remote, detail=False))
        committed = (n for n in names if n.isdigit() and self._fs.exists(f"{self._remote}/{n}/{MANIFEST}"))
        return sorted((int(name) for name in committed), reverse=True)

    def write(
        self, step: int, fill: Callable[[Path], None], *, eval_loss: float | None = None
    ) -> tuple[StoredCheckpoint, list[int]]:
        stored = self.commit(step, fill, eval_loss=eval_loss)
        source = self._local / str(step)
        target = f"{self._remote}/{step}"
        if self._fs.exists(target):
            self._fs.rm(target, recursive=True)
        files = sorted(path for path in source.rglob("*") if path.is_file())
        for path in sorted(files, key=lambda path: path.name == MANIFEST):
            key = f"{target}/{path.relative_to(source).as_posix()}"
            self._fs.makedirs(key.rsplit("/", 1)[0], exist_ok=True)
            self._fs.put_file(str(path), key)
        uploaded = StoredCheckpoint(step, f"{self._remote_uri}/{step}", stored.digest, stored.size_bytes)
        return uploaded, self.retire(step)

    def manifest(self, step: int) -> dict[str, Any]:
        return read_manifest(str(step), lambda: bytes(self._fs.cat_file(f"{self._remote}/{step}/{MANIFEST}")))

    def open(self, step: int) -> Path:
        target = self._local / str(step)
        if not (target / MANIFEST).is_file():
            shutil.rmtree(target, ignore_errors=True)
            source = f"{self._remote}/{step}"
            for path in self._fs.find(source):
                copy = target / str(path)[len(source) :].lstrip("/")
                copy.parent.mkdir(parents=True, exist_ok=True)
                self._fs.get_file(path, str(copy))
        return super().open(step)

    def discard(self, step: int) -> None:
        self._fs.rm(f"{self._remote}/{step}", recursive=True)
        shutil.rmtree(self._local / str(step), ignore_errors=True)
