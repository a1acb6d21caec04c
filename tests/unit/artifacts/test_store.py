from __future__ import annotations

import hashlib
import subprocess
import uuid
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tunix_rt.artifacts import ArtifactStore, directory_digest
from tunix_rt.errors import InvalidArtifact, InvalidInput


def remote(tmp_path: Path) -> ArtifactStore:
    """An object store in this process's memory."""
    root = f"s3://bucket/{uuid.uuid4().hex}"
    return ArtifactStore(root, cache_dir=tmp_path / "cache", filesystem=MemoryFileSystem())


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """The same claims hold on a local directory and on an object store."""
    return ArtifactStore((tmp_path / "a store").as_uri()) if request.param == "file" else remote(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "sub").mkdir(parents=True)
    (directory / "config.json").write_bytes(b"{}")
    (directory / "sub" / "weights").write_bytes(b"\x00" * 3_000_000)
    return directory


def test_bytes_are_stored_under_their_digest(store: ArtifactStore) -> None:
    hexdigits = hashlib.sha256(b"hello").hexdigest()
    stored = store.put_bytes(b"hello", suffix=".jsonl")
    assert stored.digest == f"sha256:{hexdigits}"
    assert stored.uri == f"{store.root_uri}/sha256/{hexdigits[:2]}/{hexdigits}.jsonl"
    assert stored.size_bytes == 5
    assert store.put_bytes(b"hello", suffix=".jsonl") == stored
    assert store.get_bytes(stored.uri, stored.digest) == b"hello"


def test_bytes_with_another_digest_are_refused(store: ArtifactStore) -> None:
    stored = store.put_bytes(b"hello")
    with pytest.raises(InvalidArtifact, match="has digest sha256:2cf24d"):
        store.get_bytes(stored.uri, "sha256:" + "0" * 64)


def test_missing_bytes_are_refused(store: ArtifactStore) -> None:
    with pytest.raises(InvalidArtifact, match="does not exist"):
        store.get_bytes(f"{store.root_uri}/sha256/00/none", "sha256:" + "0" * 64)


def test_a_directory_comes_back_as_it_went_in(store: ArtifactStore, model: Path) -> None:
    stored = store.put_directory(model)
    assert [file.path for file in stored.files] == ["config.json", "sub/weights"]
    assert stored.size_bytes == 3_000_002
    again = store.local_directory(stored.uri, stored.digest)
    assert (again / "config.json").read_bytes() == b"{}"
    assert directory_digest(again) == (stored.digest, stored.files)
    assert store.put_directory(model) == stored
    assert store.local_directory(stored.uri, stored.digest) == again


def test_a_missing_directory_is_refused(store: ArtifactStore) -> None:
    with pytest.raises(InvalidArtifact, match=r"missing or empty|does not exist"):
        store.local_directory(f"{store.root_uri}/sha256/00/none", "sha256:" + "0" * 64)


def test_the_directory_digest_is_what_sha256sum_says(model: Path) -> None:
    listing = subprocess.run(
        "find . -type f -printf '%P\\n' | xargs sha256sum | LC_ALL=C sort | sha256sum",
        shell=True,
        cwd=model,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert directory_digest(model)[0] == f"sha256:{listing.split()[0]}"


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "add"])
def test_a_damaged_directory_is_refused_then_repaired_by_storing_it_again(
    tmp_path: Path, model: Path, damage: str
) -> None:
    store = ArtifactStore((tmp_path / "store").as_uri())
    stored = store.put_directory(model)
    directory = store.local_directory(stored.uri, stored.digest)
    weights = directory / "sub" / "weights"
    if damage == "truncate":
        weights.write_bytes(b"\x00" * 2_999_999)
    elif damage == "flip":
        weights.write_bytes(b"\x00" * 2_999_999 + b"\x01")
    elif damage == "remove":
        weights.unlink()
    else:
        (directory / "extra").write_bytes(b"")
    with pytest.raises(InvalidArtifact, match="missing, truncated or changed"):
        store.local_directory(stored.uri, stored.digest)
    assert store.put_directory(model) == stored
    assert store.local_directory(stored.uri, stored.digest) == directory


def test_a_damaged_download_is_fetched_again(tmp_path: Path, model: Path) -> None:
    store = remote(tmp_path)
    stored = store.put_directory(model)
    cached = store.local_directory(stored.uri, stored.digest)
    (cached / "config.json").write_bytes(b"[]")
    assert (store.local_directory(stored.uri, stored.digest) / "config.json").read_bytes() == b"{}"


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArtifact, match="holds no file"):
        ArtifactStore((tmp_path / "store").as_uri()).put_directory(tmp_path / "empty")


def test_content_is_found_by_its_digest_after_its_store_has_moved(tmp_path: Path, model: Path) -> None:
    before = ArtifactStore((tmp_path / "before").as_uri())
    directory, file = before.put_directory(model), before.put_bytes(b"hello", suffix=".jsonl")
    (tmp_path / "before").rename(tmp_path / "after")
    after = ArtifactStore((tmp_path / "after").as_uri())
    assert after.local_directory(directory.uri, directory.digest).is_relative_to(tmp_path / "after")
    assert after.get_bytes(file.uri, file.digest) == b"hello"
    # Only what was stored under the very digest that is asked for.
    for uri in (directory.uri, f"file:///elsewhere/{file.uri.rpartition('/')[2]}"):
        with pytest.raises(InvalidArtifact, match="is not below"):
            after.get_bytes(uri, file.digest)


def test_a_root_without_scheme_is_refused() -> None:
    with pytest.raises(InvalidInput, match="artifacts_uri"):
        ArtifactStore("/var/lib/somewhere")
