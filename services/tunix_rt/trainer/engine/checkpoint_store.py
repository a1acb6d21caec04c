"""Opens a run's checkpoints in the artifact store; for a remote store, mirrored from a local directory."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.artifacts.downloads import download, read_bytes
from tunix_rt.artifacts.locations import check_name
from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput
from tunix_rt.trainer.engine.checkpoints import (
    DATA,
    MANIFEST,
    STAGING,
    CheckpointDirectory,
    StoredCheckpoint,
    declared_files,
    is_step,
    read_manifest,
)
from tunix_rt.trainer.job import Job

_MAX_MANIFEST_BYTES: Final = 16 << 20


def open_checkpoints(store: ArtifactStore, job: Job) -> CheckpointDirectory:
    """The checkpoints of ``job``'s run. Incomplete ones of a killed process are removed."""
    check_name(job.run_id)
    identity = f"{job.run_id} {job.spec_digest}"
    writer = f"attempt-{job.attempt}"
    path = f"checkpoints/{job.run_id}"
    keep = job.hyperparameters.save_total_limit
    checkpoints: CheckpointDirectory
    if store.local_root is not None:
        checkpoints = CheckpointDirectory(store.local_root / path, identity, keep=keep, writer=writer)
    elif job.member is not None:
        problem = "must be file://: processes that train together share checkpoints through the file system"
        raise InvalidInput([FieldViolation("artifacts_uri", problem)])
    else:
        local = Path(job.cache_dir) / path
        checkpoints = MirroredCheckpoints(local, identity, store, path, keep=keep, writer=writer)
    if job.member is None or job.member.process_id == 0:
        checkpoints.clear_staging()
    return checkpoints


class MirroredCheckpoints(CheckpointDirectory):
    """Checkpoints of a remote store (s3://, gs://): written locally first, uploaded with the manifest last.

    Object stores have no rename. A checkpoint without manifest does not exist. Only files listed in the manifest are
    downloaded, and all are verified before use.
    """

    def __init__(
        self, local: Path, identity: str, store: ArtifactStore, path: str, *, keep: int = 2, writer: str = ""
    ) -> None:
        super().__init__(local, identity, keep=keep, writer=writer)
        self._local, self._remote_uri = local, f"{store.root_uri}/{path}"
        self._fs = store.filesystem
        self._remote = store.root.locate(self._remote_uri)

    def steps(self) -> list[int]:
        if not self._fs.exists(self._remote):
            return []
        self._fs.invalidate_cache()
        names = (str(path).rstrip("/").rsplit("/", 1)[-1] for path in self._fs.ls(self._remote, detail=False))
        committed = (n for n in names if is_step(n) and self._fs.exists(f"{self._remote}/{n}/{MANIFEST}"))
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
        path = f"{self._remote}/{step}/{MANIFEST}"
        return read_manifest(str(step), lambda: read_bytes(self._fs, path, _MAX_MANIFEST_BYTES))

    def open(self, step: int) -> Path:
        target = self._local / str(step)
        if not (target / MANIFEST).is_file():
            shutil.rmtree(target, ignore_errors=True)
            self._fetch(step, target)
        return super().open(step)

    def _fetch(self, step: int, target: Path) -> None:
        manifest = self.manifest(step)
        staging = self._local / f"{STAGING}{step}-{uuid.uuid4().hex}"
        (staging / DATA).mkdir(parents=True)
        try:
            expected = {file.path: file.size_bytes for file in declared_files(manifest)}
            try:
                download(self._fs, f"{self._remote}/{step}/{DATA}", staging / DATA, expected)
            except FileNotFoundError as error:
                raise InvalidArtifact(f"checkpoint {step} is missing") from error
            self.verified(staging, step, manifest)
            (staging / MANIFEST).write_text(json.dumps(manifest))
            staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def discard(self, step: int) -> None:
        self._fs.rm(f"{self._remote}/{step}", recursive=True)
        shutil.rmtree(self._local / str(step), ignore_errors=True)
