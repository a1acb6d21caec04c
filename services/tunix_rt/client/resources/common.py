"""Records that several kinds of resources have."""

from __future__ import annotations

from datetime import datetime

from tunix_rt.client.records import Open, Record
from tunix_rt.contract.enums import LogLevel
from tunix_rt.v1 import common_pb2 as pb


class ArtifactFile(Record, of=pb.ArtifactFile):
    """A file of an artifact, by its path in it."""

    path: str
    digest: str
    size_bytes: int


class Artifact(Record, of=pb.Artifact):
    """A file or directory in the artifact store, addressed by its content's digest."""

    uri: str
    digest: str
    size_bytes: int
    files: tuple[ArtifactFile, ...]


class Signature(Record, of=pb.Signature):
    """An Ed25519 signature of the registry."""

    key_id: str
    value: str


class GenerationConfig(Open, of=pb.GenerationConfig):
    """How tokens are chosen; None where the default is meant."""


class MetricPoint(Record, of=pb.MetricPoint):
    """A metric's value at a step."""

    key: str
    step: int
    value: float
    time: datetime


class LogLine(Record, of=pb.LogLine):
    """A line that a worker logged."""

    time: datetime
    level: LogLevel
    message: str
    sequence: int
    attempt: int
