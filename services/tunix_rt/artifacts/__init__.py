"""Content-addressed storage of files and directories on any fsspec URI. Knows nothing of runs, models or datasets."""

from tunix_rt.artifacts.digests import StoredArtifact, StoredFile, directory_digest
from tunix_rt.artifacts.store import ArtifactStore, local_directory

__all__ = ["ArtifactStore", "StoredArtifact", "StoredFile", "directory_digest", "local_directory"]
