"""Dataset rows as protobuf messages."""

from __future__ import annotations

from google.protobuf import json_format

from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.kernel.messages import artifact_message, timestamp
from tunix_rt.registry.kernel.rows import etag
from tunix_rt.v1 import datasets_pb2 as pb


def dataset_message(row: DatasetRow) -> pb.Dataset:
    """The dataset as clients see it."""
    return pb.Dataset(
        id=row.id,
        key=row.key,
        artifact=artifact_message(row.uri, row.digest, row.size_bytes, row.files),
        manifest=json_format.ParseDict(row.manifest, pb.DatasetManifest(), ignore_unknown_fields=True),
        create_time=timestamp(row.create_time),
        tags=row.tags,
        etag=etag(row.revision),
        project=row.project,
        archive_time=timestamp(row.archive_time),
    )
