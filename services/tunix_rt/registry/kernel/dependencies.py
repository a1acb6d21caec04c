"""What servicers are handed by the composition root."""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.settings import RegistrySettings


@dataclass(frozen=True)
class Dependencies:
    """The adapters behind the registry's gRPC services."""

    database: Database
    artifacts: ArtifactStore
    settings: RegistrySettings
