"""Snapshots of a hub's repositories, kept in a cache."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from tunix_rt.errors import InvalidArtifact, NotFound, Transient

_FILES: Final = ["*.json", "*.safetensors", "*.jinja"]


def hub_snapshot(rest: str, cache_dir: Path, max_bytes: int) -> Path:
    """The local directory of ``organisation/name@revision``, downloaded below ``cache_dir`` if it is not there.

    Raises `NotFound`, `InvalidArtifact` for more than ``max_bytes``, and `Transient` when the hub is unreachable.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = rest.partition("@")
    try:
        _check_size(rest, repository, revision or None, max_bytes)
        return Path(
            snapshot_download(repository, revision=revision or None, cache_dir=cache_dir / "hub", allow_patterns=_FILES)
        )
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise NotFound(f"hf://{rest}: {error}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise Transient(f"hf://{rest}: the hub is unreachable: {error}") from error


def _check_size(rest: str, repository: str, revision: str | None, max_bytes: int) -> None:
    """Ask the hub how large the files are. A hub that cannot be reached downloads nothing, so it passes."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        files = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=30).siblings or []
    except (OfflineModeIsEnabled, httpx2.HTTPError, OSError):
        return
    sizes = [file.size or 0 for file in files if any(fnmatchcase(file.rfilename, pattern) for pattern in _FILES)]
    if sum(sizes) > max_bytes:
        found, most = sum(sizes) / 2**30, max_bytes / 2**30
        raise InvalidArtifact(f"hf://{rest} has {found:.1f} GiB; at most {most:g} are allowed (TUNIX_RT_HUB_MAX_GIB)")
