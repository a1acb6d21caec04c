"""The input of a training process: one attempt of one run, as a frozen value with a JSON form.

Owns the file between service and child. Holds no credentials and no lease: the child never talks to the registry.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunix_rt.artifacts import StoredFile
from tunix_rt.contract.hyperparameters import Hyperparameters, Lora, Mesh


@dataclass(frozen=True)
class ArtifactRef:
    """Content in the artifact store, or under a reference; ``files`` as declared when it was stored.

    A reference that was registered has no files, and no digest before it was loaded for the first time.
    """

    uri: str
    digest: str
    files: tuple[StoredFile, ...] = ()


@dataclass(frozen=True)
class InitialCheckpoint:
    """The checkpoint of another run that a run starts from; ``digest`` is that of its data, as that run recorded it."""

    run_id: str
    step: int
    uri: str
    digest: str


@dataclass(frozen=True)
class Member:
    """A training process's place among ``num_processes`` that train together; the leader is ``process_id`` 0.

    ``coordinator_address`` (host:port) is where the leader listens for the others; empty: JAX is to find all three by
    itself, and only whether ``process_id`` is 0 counts.
    """

    coordinator_address: str = ""
    num_processes: int = 1
    process_id: int = 0


@dataclass(frozen=True)
class Standby:
    """What a follower is given: where it works. Its job comes from the leader."""

    member: Member
    work_dir: str
    cache_dir: str
    compilation_cache: str = ""

    def write(self, path: Path) -> None:
        """Write the file that `read_order` reads."""
        _write(path, self)


@dataclass(frozen=True)
class Job:
    """One attempt. ``recorded_steps`` are the checkpoints that the registry knows, newest first.

    ``base_model_artifact`` is set when ``base_model`` is a ``model://`` reference. A run without ``initial_checkpoint``
    starts from the base model. ``compilation_cache`` is empty to leave the cache off.
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
    initial_checkpoint: InitialCheckpoint | None = None
    compilation_cache: str = ""
    member: Member | None = None

    def write(self, path: Path) -> None:
        """Write the job file."""
        _write(path, self)

    @staticmethod
    def read(path: Path) -> Job:
        """Read a job file that `write` made."""
        return Job.of(json.loads(path.read_text()))

    @staticmethod
    def of(document: dict[str, Any]) -> Job:
        """The job of its JSON form."""
        base, initial = document["base_model_artifact"], document["initial_checkpoint"]
        return Job(
            **{
                **document,
                "dataset": _artifact(document["dataset"]),
                "base_model_artifact": _artifact(base) if base else None,
                "initial_checkpoint": InitialCheckpoint(**initial) if initial else None,
                "recorded_steps": tuple(document["recorded_steps"]),
                "member": _member(document["member"]),
                "hyperparameters": _hyperparameters(document["hyperparameters"]),
            }
        )


def read_order(path: Path) -> Job | Standby:
    """The job or the stand-by order in a file."""
    document: dict[str, Any] = json.loads(path.read_text())
    if "run_id" in document:
        return Job.of(document)
    return Standby(**{**document, "member": Member(**document["member"])})


def _write(path: Path, order: Job | Standby) -> None:
    path.write_text(json.dumps(dataclasses.asdict(order), sort_keys=True, indent=1) + "\n")


def _artifact(document: dict[str, Any]) -> ArtifactRef:
    return ArtifactRef(document["uri"], document["digest"], tuple(StoredFile(**each) for each in document["files"]))


def _member(document: dict[str, Any] | None) -> Member | None:
    return Member(**document) if document is not None else None


def _hyperparameters(document: dict[str, Any]) -> Hyperparameters:
    lora = document["lora"]
    if lora is not None:
        lists = {name: tuple(value) for name, value in lora.items() if isinstance(value, list)}
        lora = Lora(**lora | lists)
    return Hyperparameters(**{**document, "lora": lora, "mesh": Mesh(**document["mesh"])})
