"""Starting from another run's checkpoint: it becomes the run's own first one, before anything is trained.

From then on the other run may remove its checkpoint, and the run is resumed from its own like any other. Knows files;
nothing of steps or of what is in the arrays.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.errors import InvalidArtifact
from tunix_rt.trainer.engine.checkpoints import DATA, CheckpointDirectory, StoredCheckpoint
from tunix_rt.trainer.engine.orbax_checkpoints import POSITION, read_position, write_position
from tunix_rt.trainer.job import InitialCheckpoint


def adopt(
    source: InitialCheckpoint, store: ArtifactStore, checkpoints: CheckpointDirectory
) -> tuple[StoredCheckpoint, list[int]]:
    """Commit ``source``, verified against its digest, as one of ``checkpoints``; as `CheckpointDirectory.write`.

    Its metric rows stay the other run's. Raises `InvalidArtifact` when it is gone or has changed.
    """
    try:
        data = store.local_directory(f"{source.uri}/{DATA}", source.digest)
        return checkpoints.write(source.step, lambda directory: _take_over(data, directory))
    except (InvalidArtifact, FileNotFoundError) as error:
        raise InvalidArtifact(
            f"this run starts from the checkpoint of step {source.step} of run {source.run_id}, which is gone or has "
            f"changed ({error}); a run keeps save_total_limit checkpoints"
        ) from error


def _take_over(data: Path, directory: Path) -> None:
    for path in sorted(data.rglob("*")):
        target = directory / path.relative_to(data)
        if path.is_file() and target != directory / POSITION:
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(path, target)
    write_position(directory, dataclasses.replace(read_position(data), unreported=()))


def _link_or_copy(path: Path, target: Path) -> None:
    # Nobody writes into a committed file; a link is as good as a copy, and needs no room.
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
