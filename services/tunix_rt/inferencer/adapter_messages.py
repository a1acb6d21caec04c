"""The edge between protobuf and the domain for `LoadAdapter`."""

from __future__ import annotations

from tunix_rt.contract.digests import check_digest
from tunix_rt.errors import Violations
from tunix_rt.inferencer.loaded_adapter import LoadedAdapter
from tunix_rt.v1 import inference_pb2


def check_load(request: inference_pb2.LoadAdapterRequest) -> Violations:
    """Every violation that can be seen without the adapter."""
    bad = Violations()
    bad.check(bool(request.model), "model", "must be a handle that LoadModel returned")
    bad.check(bool(request.reference), "reference", "must be file:// or hf://")
    if request.expected_digest:
        check_digest(request.expected_digest, "expected_digest", bad)
    return bad


def write_adapter(adapter: LoadedAdapter) -> inference_pb2.LoadedAdapter:
    return inference_pb2.LoadedAdapter(
        handle=adapter.handle,
        reference=adapter.reference,
        digest=adapter.digest,
        model=adapter.model,
        rank=adapter.rank,
        memory_bytes=adapter.memory_bytes,
        load_seconds=adapter.load_seconds,
    )
