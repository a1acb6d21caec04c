"""Times and artifacts as protobuf messages, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.v1 import common_pb2


def timestamp(value: datetime | None) -> Timestamp | None:
    """``value`` (aware) as a message; None stays None, which leaves a message field unset."""
    if value is None:
        return None
    message = Timestamp()
    message.FromDatetime(value)
    return message


def artifact_message(uri: str, digest: str, size_bytes: int, files: Iterable[Mapping[str, Any]]) -> common_pb2.Artifact:
    """An artifact from its columns; each of ``files`` has ``path``, ``digest`` and ``size_bytes``."""
    return common_pb2.Artifact(
        uri=uri,
        digest=digest,
        size_bytes=size_bytes,
        files=[
            common_pb2.ArtifactFile(path=file["path"], digest=file["digest"], size_bytes=file["size_bytes"])
            for file in files
        ],
    )
