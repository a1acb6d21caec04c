"""What a training process is told: one attempt of one run, as a frozen value with a JSON form.

Owns the file between service and child. Holds no credentials and no lease: the child never talks to the registry.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunix_rt.trainer.hyperparameters import Hyperparameters, Lora, Mesh


@dataclass(frozen=True)
class ArtifactRef:
    """Content in the artifact store."""

    uri: str
    digest: str


@dataclass(frozen=True)
class Job:
    """One attempt. ``recorded_steps`` are the checkpoints that the registry knows, newest first.

    ``base_model_artifact`` is set when ``base_model`` is a ``model://`` reference. ``compilation_cache`` is empty to
    leave the cache off.
    """

    run_id: str
    attempt: int
    spec_digest: str
    base_model: str
    dataset_id: str
    dataset: ArtifactRef
    hyperparameters: Hyperparameters
    artifacts_uri: str
    work_dir: str
    cache_dir: str
    base_model_artifact: ArtifactRef | None = None
    recorded_steps: tuple[int, ...] = ()
    compilation_cache: str = ""
    keep_checkpoints: int = 2

    def write(self, path: Path) -> None:
        """Write the job file."""
        path.write_text(json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1) + "\n")

    @staticmethod
    def read(path: Path) -> Job:
        """Read a job file that `write` made."""
        document: dict[str, Any] = json.loads(path.read_text())
        base = document["base_model_artifact"]
        return Job(
            **{
                **document,
                "dataset": ArtifactRef(**document["dataset"]),
                "base_model_artifact": ArtifactRef(**base) if base else None,
                "recorded_steps": tuple(document["recorded_steps"]),
                "hyperparameters": _hyperparameters(document["hyperparameters"]),
            }
        )


def _hyperparameters(document: dict[str, Any]) -> Hyperparameters:
    lora = document["lora"]
    if lora is not None:
        lora = Lora(**{**lora, "target_modules": tuple(lora["target_modules"])})
    return Hyperparameters(**{**document, "lora": lora, "mesh": Mesh(**document["mesh"])})
