"""Content-addressed storage of files and directories below one root."""

from tunix_rt.artifacts.digests import StoredArtifact, StoredFile, directory_digest
from tunix_rt.artifacts.locations import ArtifactRoot
from tunix_rt.artifacts.store import ArtifactStore

__all__ = ["ArtifactRoot", "ArtifactStore", "StoredArtifact", "StoredFile", "directory_digest"]
