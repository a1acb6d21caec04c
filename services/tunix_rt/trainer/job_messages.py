"""A run as it is claimed and completed, in protobuf: the payload becomes a training process's job."""

from __future__ import annotations

from typing import Any

from tunix_rt.artifacts import StoredArtifact, StoredFile
from tunix_rt.contract.messages import hyperparameters_of
from tunix_rt.trainer.job import ArtifactRef, InitialCheckpoint, Job
from tunix_rt.v1 import common_pb2, jobs_pb2
from tunix_rt.worker.jobs import Lease


def job_of(lease: Lease, payload: jobs_pb2.RunPayload, **where: Any) -> Job:
    """The job of a training process; ``where`` are those fields of `Job` that only the worker knows."""
    spec = payload.run.spec
    return Job(
        run_id=lease.job_id,
        attempt=lease.epoch,
        spec_digest=payload.run.spec_digest,
        base_model=spec.base_model,
        dataset_id=payload.dataset_id,
        dataset=_reference(payload.dataset),
        hyperparameters=hyperparameters_of(spec.hyperparameters),
        base_model_artifact=_reference(payload.base_model) if payload.base_model.uri else None,
        recorded_steps=tuple(checkpoint.step for checkpoint in payload.checkpoints),
        initial_checkpoint=_initial_checkpoint(payload),
        **where,
    )


def run_result(step: int, model: StoredArtifact, lineage: dict[str, str]) -> jobs_pb2.RunResult:
    """What a run that is trained and exported completes with."""
    files = [common_pb2.ArtifactFile(path=f.path, digest=f.digest, size_bytes=f.size_bytes) for f in model.files]
    artifact = common_pb2.Artifact(uri=model.uri, digest=model.digest, size_bytes=model.size_bytes, files=files)
    return jobs_pb2.RunResult(model=artifact, step=step, lineage=lineage)


def _reference(artifact: common_pb2.Artifact) -> ArtifactRef:
    files = tuple(StoredFile(file.path, file.digest, file.size_bytes) for file in artifact.files)
    return ArtifactRef(artifact.uri, artifact.digest, files)


def _initial_checkpoint(payload: jobs_pb2.RunPayload) -> InitialCheckpoint | None:
    if not payload.HasField("initial_checkpoint"):
        return None
    found = payload.initial_checkpoint
    return InitialCheckpoint(payload.run.spec.initial_checkpoint.run_id, found.step, found.uri, found.digest)
