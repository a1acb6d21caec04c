"""Times and artifacts as protobuf messages, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.v1 import common_pb2

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(value: datetime | None) -> Timestamp | None:
    """``value`` (aware) as a message; None stays None, which leaves a message field unset.

    Lists make thousands of these, and `Timestamp.FromDatetime` takes five times as long.
    """
    if value is None:
        return None
    since = value - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


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
