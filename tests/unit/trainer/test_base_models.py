"""What the registry says of a base model was once reported by a worker, or registered by somebody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tunix_rt.artifacts import ArtifactStore, StoredFile, directory_digest
from tunix_rt.contract.hyperparameters import Hyperparameters
from tunix_rt.errors import InvalidArtifact, NotFound
from tunix_rt.trainer.engine.base_models import find_base
from tunix_rt.trainer.job import ArtifactRef, Job

OTHER = f"sha256:{'0' * 64}"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(
        run_id="run-1",
        attempt=1,
        spec_digest="sha256:0",
        base_model="model://model-1",
        dataset_id="ds-1",
        dataset=ArtifactRef("file:///d", "sha256:1"),
        hyperparameters=Hyperparameters(),
        artifacts_uri="",
        work_dir=str(tmp_path),
        cache_dir=str(tmp_path / "cache"),
    )


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    root = (tmp_path / "store").as_uri() if request.param == "file" else f"s3://bucket/{tmp_path.name}"
    filesystem = None if request.param == "file" else MemoryFileSystem()
    return ArtifactStore(root, cache_dir=tmp_path / "cache" / "artifacts", filesystem=filesystem)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return tmp_path / "model"


def test_a_stored_model_is_found_by_what_the_registry_says_of_it(job: Job, store: ArtifactStore, model: Path) -> None:
    stored = store.put_directory(model)
    artifact = ArtifactRef(stored.uri, stored.digest, stored.files)
    found = find_base(replace(job, base_model_artifact=artifact), store)
    assert (found.kind, found.digest) == ("directory", stored.digest)
    assert found.path is not None
    assert (found.path / "config.json").read_text() == "{}"


@pytest.mark.parametrize(
    "uri",
    [
        "reference::http://127.0.0.1:9/refs.json",
        "http://127.0.0.1:9/x",
        "s3://foreign/x",
        "memory://x",
        "file://{model}",
    ],
)
@pytest.mark.parametrize("with_files", [True, False])
def test_an_artifact_that_a_worker_put_elsewhere_is_refused(
    job: Job, store: ArtifactStore, model: Path, uri: str, with_files: bool
) -> None:
    digest, files = directory_digest(model)
    artifact = ArtifactRef(uri.replace("{model}", str(model)), digest, files)
    if not with_files:
        # Without files it could only be a reference, and then has to be one.
        artifact = replace(artifact, digest=OTHER, files=())
    with pytest.raises(InvalidArtifact):
        find_base(replace(job, base_model_artifact=artifact), store)


def test_files_that_do_not_make_the_digest_are_refused(job: Job, store: ArtifactStore, model: Path) -> None:
    stored = store.put_directory(model)
    files = (replace(stored.files[0], path="../config.json"),)
    for wrong in (files, (StoredFile("config.json", OTHER, 2),)):
        with pytest.raises(InvalidArtifact):
            find_base(replace(job, base_model_artifact=ArtifactRef(stored.uri, stored.digest, wrong)), store)


def test_a_registered_reference_is_resolved_as_one_and_held_to_its_digest(
    job: Job, store: ArtifactStore, model: Path
) -> None:
    digest = directory_digest(model)[0]
    for known in (digest, ""):
        assert find_base(replace(job, base_model_artifact=ArtifactRef(model.as_uri(), known)), store).digest == digest
    with pytest.raises(InvalidArtifact, match=f"has digest {OTHER}, but"):
        find_base(replace(job, base_model_artifact=ArtifactRef(model.as_uri(), OTHER)), store)


def test_without_an_artifact_the_runs_own_reference_counts(job: Job, store: ArtifactStore, model: Path) -> None:
    assert find_base(replace(job, base_model=model.as_uri()), store).path == model
    with pytest.raises(NotFound):
        find_base(replace(job, base_model="file:///not/there"), store)
    with pytest.raises(InvalidArtifact, match="gave no artifact"):
        find_base(job, store)
