"""A home that was moved while its platform was down works where it is now."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures.nats import NatsServer
from tests.fixtures.registry_process import Worker, registry_process

from tunix_rt.client import TunixClient
from tunix_rt.v1 import runs_pb2


def test_a_moved_home_has_its_datasets_models_and_checkpoints(tmp_path: Path, nats_server: NatsServer) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    with registry_process(before, nats_server) as registry:
        run_id = registry.create()
        worker = Worker(registry, run_id)
        uri = f"{(before / 'artifacts').as_uri()}/checkpoints/{run_id}/10"
        checkpoint = runs_pb2.Checkpoint(step=10, uri=uri, digest="sha256:" + "0" * 64, size_bytes=1)
        request = runs_pb2.RecordCheckpointRequest(lease=worker.claim.lease, checkpoint=checkpoint)
        registry.runs.RecordCheckpoint(request, timeout=20)
        worker.die()
        with TunixClient(f"127.0.0.1:{registry.port}", "") as client:
            [dataset] = client.datasets.list()
            content = list(client.datasets.export(dataset.id))
    before.rename(after)
    with registry_process(after, nats_server) as registry:
        with TunixClient(f"127.0.0.1:{registry.port}", "") as client:
            [found] = client.datasets.list()
            assert list(client.datasets.export(found.id)) == content
        workers: list[Worker] = []

        def granted() -> bool:
            workers.append(Worker(registry, run_id))
            return workers[-1].granted

        registry.until(granted, 30)
        given = workers[-1].claim.run
        workers[-1].die()
        root = (after / "artifacts").as_uri()
        assert given.dataset.uri.startswith(f"{root}/sha256/")
        assert [each.uri for each in given.checkpoints] == [f"{root}/checkpoints/{run_id}/10"]
