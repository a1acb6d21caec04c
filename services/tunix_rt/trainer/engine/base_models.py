"""Locates a run's base model: in the artifact store, or by its reference."""

from __future__ import annotations

from pathlib import Path

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.errors import InvalidArtifact, InvalidInput, NotFound
from tunix_rt.models.references import ModelSource, resolve
from tunix_rt.trainer.job import ArtifactRef, Job


def find_base(job: Job, store: ArtifactStore) -> ModelSource:
    """The base model of ``job``, verified against the registry's digest.

    Raises `InvalidArtifact` for an artifact outside of ``store``, for one that is missing or has changed, and for a
    registry reference that cannot be resolved; for the run's own reference what `resolve` raises.
    """
    cache, artifact = Path(job.cache_dir), job.base_model_artifact
    if artifact is None:
        if job.base_model.startswith("model://"):
            raise InvalidArtifact(f"{job.base_model}: the registry gave no artifact for it")
        return resolve(job.base_model, cache_dir=cache, artifacts=store)
    place = artifact.uri
    if is_stored(artifact, store):
        place = store.local_directory(artifact.uri, artifact.digest, artifact.files).resolve().as_uri()
    try:
        found = resolve(place, cache_dir=cache, artifacts=store)
    except (InvalidInput, NotFound) as error:
        raise InvalidArtifact(f"{job.base_model}: {error}") from error
    if artifact.digest and found.digest != artifact.digest:
        raise InvalidArtifact(f"{job.base_model} has digest {artifact.digest}, but {artifact.uri} has {found.digest}")
    return found


def is_stored(artifact: ArtifactRef, store: ArtifactStore) -> bool:
    """Whether ``artifact`` is in the store (it has files); otherwise its URI is a model reference."""
    return bool(artifact.files) or store.root.holds(artifact.uri)
