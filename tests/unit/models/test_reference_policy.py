"""Which references may be followed, by the environment of the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunix_rt.errors import InvalidArtifact, InvalidInput, NotFound
from tunix_rt.models.references import resolve


def model(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    return directory


def test_only_the_named_directories_and_the_cache_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed, other = model(tmp_path / "models" / "a"), model(tmp_path / "other")
    cached = model(tmp_path / "cache" / "c")
    monkeypatch.setenv("TUNIX_RT_MODEL_ROOTS", str(tmp_path / "models"))
    cache = tmp_path / "cache"
    assert resolve(allowed.as_uri(), cache_dir=cache).path == allowed
    assert resolve(cached.as_uri(), cache_dir=cache).path == cached
    with pytest.raises(NotFound, match="TUNIX_RT_MODEL_ROOTS"):
        resolve(other.as_uri(), cache_dir=cache)
    (tmp_path / "models" / "link").symlink_to(other)
    with pytest.raises(NotFound, match="TUNIX_RT_MODEL_ROOTS"):
        resolve((tmp_path / "models" / "link").as_uri(), cache_dir=cache)


def test_a_link_inside_a_model_may_not_lead_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = model(tmp_path / "models" / "a")
    (tmp_path / "secret").write_text("secret")
    (directory / "tokenizer.json").symlink_to(tmp_path / "secret")
    monkeypatch.setenv("TUNIX_RT_MODEL_ROOTS", str(tmp_path / "models"))
    with pytest.raises(InvalidArtifact, match=r"'tokenizer\.json' is a link"):
        resolve(directory.as_uri(), cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    ("allow", "repository"), [("google/*,my-team/*", "other/model"), ("", "google/gemma"), ("a/b", "a/b-evil")]
)
def test_a_repository_that_is_not_listed_is_refused_without_a_request(
    allow: str, repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNIX_RT_HUB_ALLOW", allow)
    with pytest.raises(InvalidInput, match="TUNIX_RT_HUB_ALLOW"):
        resolve(f"hf://{repository}", cache_dir=tmp_path)
