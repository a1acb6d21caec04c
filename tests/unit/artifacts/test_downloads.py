"""What an object store says of itself is compared with what is expected, and leads nowhere else."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fsspec.spec import AbstractFileSystem

from tunix_rt.artifacts import ArtifactStore, StoredFile
from tunix_rt.artifacts.digests import listing_digest
from tunix_rt.errors import InvalidArtifact

ROOT = "s3://bucket/store"
URI, KEY = f"{ROOT}/sha256/ab/x", "bucket/store/sha256/ab/x"


class HostileStore(AbstractFileSystem):  # type: ignore[misc]
    """An object store that somebody else can write to: keys and their contents.

    ``sizes`` is what its listing says otherwise. Counts what it is asked for.
    """

    cachable = False

    def __init__(self, contents: Mapping[str, bytes], sizes: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.contents, self.sizes = contents, sizes or {}
        self.listed, self.bytes_read = 0, 0
        self.opened: list[str] = []

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        self.listed += 1
        entries = [
            {"name": key, "size": self.sizes.get(key, len(content)), "type": "file"}
            for key, content in self.contents.items()
        ]
        return entries if detail else [entry["name"] for entry in entries]

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> io.BytesIO:
        self.opened.append(path)
        store = self

        class Counted(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                data = super().read(size)
                store.bytes_read += len(data)
                return data

        return Counted(self.contents[path])


class EndlessStore(AbstractFileSystem):  # type: ignore[misc]
    """1,000 directories with 1,000 files each, made only when they are asked for."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.listed = 0

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        self.listed += 1
        kind, count = ("file", 1000) if path.rsplit("/", 1)[-1].startswith("d") else ("directory", 999)
        return [{"name": f"{path}/{kind[0]}{number}", "size": 1, "type": kind} for number in range(count)]

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> io.BytesIO:
        raise AssertionError(f"{path} was fetched")


def stored(name: str, content: bytes) -> StoredFile:
    return StoredFile(name, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))


def everything_in(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path != directory / "cache")


def store_of(filesystem: HostileStore | EndlessStore, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(ROOT, cache_dir=tmp_path / "cache", filesystem=filesystem)


@pytest.mark.parametrize(
    "key",
    [
        f"{KEY}/../../../../../escaped",
        f"{KEY}/..",
        f"{KEY}/sub/../../escaped",
        f"{KEY}//tmp/escaped",
        f"{KEY}/a\0b",
        f"{KEY}/a\nb",
        f"{KEY}/..\\escaped",
        "/tmp/escaped",
        "bucket/elsewhere/escaped",
        KEY,
        f"{KEY}-of-another/escaped",
    ],
)
@pytest.mark.parametrize("declared", [True, False])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_fetched(
    tmp_path: Path, key: str, declared: bool
) -> None:
    filesystem = HostileStore({f"{KEY}/config.json": b"{}", key: b"import os"})
    files = (stored("config.json", b"{}"),)
    with pytest.raises(InvalidArtifact):
        store_of(filesystem, tmp_path).local_directory(URI, listing_digest(files), files if declared else ())
    assert (filesystem.opened, everything_in(tmp_path)) == ([], [])


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a\0b", "a\nb", "sub/../../x", ""])
def test_a_declared_name_that_leads_elsewhere_is_refused_though_the_digest_is_right(tmp_path: Path, name: str) -> None:
    files = (stored(name, b"{}"),)
    filesystem = HostileStore({f"{KEY}/{name}": b"{}"})
    with pytest.raises(InvalidArtifact, match="not the name of a file"):
        store_of(filesystem, tmp_path).local_directory(URI, listing_digest(files), files)
    assert (filesystem.listed, filesystem.opened, everything_in(tmp_path)) == (0, [], [])


def test_a_million_names_are_not_listed_to_their_end(tmp_path: Path) -> None:
    filesystem = EndlessStore()
    with pytest.raises(InvalidArtifact, match="more than 10000 files"):
        store_of(filesystem, tmp_path).local_directory(URI, f"sha256:{'0' * 64}")
    assert filesystem.listed <= 12
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize(
    "contents",
    [
        {},
        {"config.json": b"{}", "evil.pth": b"import os"},
        {"config.json": b"{} "},
        {"other.json": b"{}"},
    ],
    ids=["missing", "one more", "longer", "renamed"],
)
def test_a_listing_that_is_not_as_declared_is_refused_before_anything_is_fetched(
    tmp_path: Path, contents: dict[str, bytes]
) -> None:
    files = (stored("config.json", b"{}"),)
    filesystem = HostileStore({f"{KEY}/{name}": content for name, content in contents.items()})
    with pytest.raises(InvalidArtifact):
        store_of(filesystem, tmp_path).local_directory(URI, listing_digest(files), files)
    assert (filesystem.opened, everything_in(tmp_path)) == ([], [])


def test_files_that_do_not_make_the_digest_are_refused_before_anything_is_listed(tmp_path: Path) -> None:
    files = (stored("config.json", b"{}"),)
    filesystem = HostileStore({f"{KEY}/config.json": b"{}"})
    with pytest.raises(InvalidArtifact, match="do not make"):
        store_of(filesystem, tmp_path).local_directory(URI, f"sha256:{'0' * 64}", files)
    with pytest.raises(InvalidArtifact, match="do not make"):
        store_of(filesystem, tmp_path).local_directory(URI, listing_digest(files * 2), files * 2)
    assert filesystem.listed == 0


@pytest.mark.parametrize("declared", [True, False])
def test_a_file_that_is_larger_than_listed_is_given_up_at_its_listed_size(tmp_path: Path, declared: bool) -> None:
    key, files = f"{KEY}/weights", (stored("weights", b"x" * 10),)
    filesystem = HostileStore({key: b"x" * 10_000_000}, sizes={key: 10})
    with pytest.raises(InvalidArtifact, match="larger than the 10 bytes"):
        store_of(filesystem, tmp_path).local_directory(URI, listing_digest(files), files if declared else ())
    assert filesystem.bytes_read == 11
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize(("content", "message"), [(b"x" * 9, "smaller"), (b"y" * 10, "has digest")])
def test_content_that_is_not_what_was_declared_leaves_nothing_behind(
    tmp_path: Path, content: bytes, message: str
) -> None:
    key, files = f"{KEY}/weights", (stored("weights", b"x" * 10),)
    filesystem = HostileStore({key: content}, sizes={key: 10})
    with pytest.raises(InvalidArtifact, match=message):
        store_of(filesystem, tmp_path).local_directory(URI, listing_digest(files), files)
    assert everything_in(tmp_path) == []


def test_a_name_that_is_a_file_and_a_directory_is_refused(tmp_path: Path) -> None:
    filesystem = HostileStore({f"{KEY}/a": b"1", f"{KEY}/a/b": b"2"})
    with pytest.raises(InvalidArtifact, match="file and a directory"):
        store_of(filesystem, tmp_path).local_directory(URI, f"sha256:{'0' * 64}")
    assert everything_in(tmp_path) == []


def test_bytes_are_read_only_as_far_as_they_were_declared(tmp_path: Path) -> None:
    content = b"x" * 10_000_000
    filesystem = HostileStore({KEY: content})
    with pytest.raises(InvalidArtifact, match="more than 10 bytes"):
        store_of(filesystem, tmp_path).get_bytes(URI, stored("x", content).digest, size_bytes=10)
    assert filesystem.bytes_read == 11


@pytest.mark.parametrize("uri", ["s3://bucket/elsewhere", "s3://other/store/x", "http://127.0.0.1:9/x", "file:///x"])
def test_a_store_reads_nothing_outside_of_its_root(tmp_path: Path, uri: str) -> None:
    filesystem = HostileStore({"bucket/elsewhere": b"x", "other/store/x": b"x"})
    store = store_of(filesystem, tmp_path)
    digest = stored("x", b"x").digest
    for read in (store.get_bytes, store.local_directory):
        with pytest.raises(InvalidArtifact):
            read(uri, digest)
    assert (filesystem.listed, filesystem.opened) == (0, [])


def test_a_link_in_a_stored_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    directory = tmp_path / "store" / "model"
    directory.mkdir(parents=True)
    (directory / "config.json").symlink_to(tmp_path / "secret")
    store = ArtifactStore((tmp_path / "store").as_uri())
    with pytest.raises(InvalidArtifact, match="is a link"):
        store.local_directory(f"{store.root_uri}/model", listing_digest([stored("config.json", b"x")]))


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "\u202egnp.exe"])
def test_a_stored_directory_holds_plain_names_only(tmp_path: Path, name: str) -> None:
    (tmp_path / "store" / "model").mkdir(parents=True)
    (tmp_path / "store" / "model" / name).write_text("x")
    store = ArtifactStore((tmp_path / "store").as_uri())
    with pytest.raises(InvalidArtifact, match="not the name of a file"):
        store.local_directory(f"{store.root_uri}/model", listing_digest([stored(name, b"x")]))
    with pytest.raises(InvalidArtifact, match="not the name of a file"):
        store.put_directory(tmp_path / "store" / "model")


def test_one_name_of_two_lines_is_not_two_files(tmp_path: Path) -> None:
    first, second = stored("a", b"1"), stored("b", b"2")
    if first.digest > second.digest:
        first, second = second, first
    content = b"1" if first.path == "a" else b"2"
    name = f"{first.path}\n{second.digest.removeprefix('sha256:')}  {second.path}"
    assert listing_digest([stored(name, content)]) == listing_digest([first, second])
    (tmp_path / "store" / "model").mkdir(parents=True)
    (tmp_path / "store" / "model" / name).write_bytes(content)
    store = ArtifactStore((tmp_path / "store").as_uri())
    with pytest.raises(InvalidArtifact):
        store.local_directory(f"{store.root_uri}/model", listing_digest([first, second]))
