"""An adapter names its base model, and whoever wrote the adapter wrote the name: it opens nothing by itself."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tunix_rt.artifacts import ArtifactStore, directory_digest
from tunix_rt.client import ModelVersion
from tunix_rt.client.workflows.merging import merge_adapter
from tunix_rt.errors import FailedPrecondition, InvalidArtifact, InvalidInput
from tunix_rt.models.base_model import read_base_model
from tunix_rt.models.merge import merge
from tunix_rt.models.references import check_reference, resolve, resolve_adapter
from tunix_rt.v1 import common_pb2, models_pb2

DIGEST = f"sha256:{'0' * 64}"


@dataclass
class Listener:
    """A server on loopback that hands out what writes to ``escaped``, and remembers each connection."""

    port: int = 0
    connections: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    found = Listener()
    escape = "/".join([".."] * 12) + str(tmp_path / "escaped")
    content = "base64:" + base64.b64encode(b"import os").decode()
    answer = json.dumps({"version": 1, "refs": {escape: content, "config.json": content}}).encode()

    class Handler(BaseHTTPRequestHandler):
        def setup(self) -> None:
            found.connections.append(self.client_address[0])
            super().setup()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    (tmp_path / "store").mkdir(exist_ok=True)
    return ArtifactStore((tmp_path / "store").as_uri(), cache_dir=tmp_path / "cache" / "artifacts")


WriteAdapter = Callable[..., Path]


@pytest.fixture
def write_adapter(tmp_path: Path) -> WriteAdapter:
    """Writes an adapter's directory as far as finding its base reads it."""

    def write(uri: str, *, reference: str = "model://model-1", digest: str = DIGEST, name: str = "adapter") -> Path:
        directory = tmp_path / name
        directory.mkdir()
        for file in ("config.json", "adapter_config.json"):
            (directory / file).write_text("{}")
        document = {"reference": reference, "digest": digest, "uri": uri}
        (directory / "base_model.json").write_text(json.dumps(document))
        return directory

    return write


def files_of(tmp_path: Path) -> set[Path]:
    return {path for path in tmp_path.rglob("*") if path.is_file()}


HOSTILE = [
    "reference::{url}/refs.json",
    "reference::simplecache::{url}/refs.json",
    "{url}/refs.json",
    "simplecache::{url}/refs.json",
    "filecache::{url}/refs.json",
    "zip://x::{url}/x.zip",
    "dir::{url}/x",
    "{url}/{{f.__globals__[os].environ[HOME]}}",
    "s3://other/model",
    "gs://other/model",
    "hf://org/model",
    "ftp://127.0.0.1:{port}/x",
    "webhdfs://127.0.0.1:{port}/x",
    "local://{outside}",
    "file://{outside}",
    "file://{store}/../outside",
    "file://{store}/%2e%2e/outside",
    "file://{store}/link",
    "{store}/model",
    "outside",
]


@pytest.fixture
def hostile(request: pytest.FixtureRequest, tmp_path: Path, listener: Listener) -> str:
    """A URI of `HOSTILE` with what it means here; outside of the store stands a whole model, to which a link leads."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json").write_text("{}")
    (tmp_path / "store").mkdir(exist_ok=True)
    (tmp_path / "store" / "link").symlink_to(outside)
    given = {"url": listener.url, "port": str(listener.port), "outside": str(outside), "store": str(tmp_path / "store")}
    uri: str = request.param
    for name, value in given.items():
        uri = uri.replace(f"{{{name}}}", value)
    return uri


@pytest.fixture
def outside_digest(tmp_path: Path, hostile: str) -> str:
    """What the model outside of the store really has: a right digest is no way in."""
    return directory_digest(tmp_path / "outside")[0]


@pytest.mark.parametrize("hostile", HOSTILE, indirect=True)
def test_a_base_outside_of_the_store_is_refused_without_a_connection_or_a_file(
    tmp_path: Path,
    hostile: str,
    outside_digest: str,
    listener: Listener,
    store: ArtifactStore,
    write_adapter: WriteAdapter,
) -> None:
    adapter = write_adapter(hostile, digest=outside_digest)
    before = files_of(tmp_path)
    with pytest.raises(InvalidArtifact):
        resolve(adapter.as_uri(), cache_dir=tmp_path / "cache", artifacts=store)
    with pytest.raises(InvalidArtifact):
        merge(adapter, tmp_path / "out", cache_dir=tmp_path / "cache", artifacts=store)
    assert (listener.connections, files_of(tmp_path)) == ([], before)


def test_without_a_store_no_base_in_a_store_is_accepted(tmp_path: Path, write_adapter: WriteAdapter) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    digest = directory_digest(tmp_path / "model")[0]
    adapter = write_adapter((tmp_path / "model").as_uri(), digest=digest)
    with pytest.raises(InvalidArtifact, match="none is configured"):
        resolve(adapter.as_uri(), cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    "reference",
    [
        *("reference::http://{host}/refs.json", "http://{host}/x", "simplecache::file:///etc", "file://{host}/etc"),
        *("s3://bucket/x", "model://model-1", "hf://org/name@../../x", "hf://org/name@/etc/x", "file:///x/../etc", ""),
    ],
)
def test_a_base_by_a_reference_that_is_none_is_refused(
    tmp_path: Path, reference: str, listener: Listener, store: ArtifactStore, write_adapter: WriteAdapter
) -> None:
    reference = reference.replace("{host}", f"127.0.0.1:{listener.port}")
    adapter = write_adapter("", reference=reference)
    before = files_of(tmp_path)
    with pytest.raises(InvalidArtifact):
        resolve(adapter.as_uri(), cache_dir=tmp_path / "cache", artifacts=store)
    with pytest.raises(InvalidInput):
        check_reference(reference)
    assert (listener.connections, files_of(tmp_path)) == ([], before)


@pytest.mark.parametrize("by", ["uri", "reference"])
def test_an_adapter_based_on_an_adapter_or_on_itself_is_refused_at_the_first_step(
    tmp_path: Path, by: str, store: ArtifactStore, write_adapter: WriteAdapter
) -> None:
    inner = write_adapter("", reference="file:///no/such/model", name="inner")
    stored = store.put_directory(inner)
    own = (tmp_path / "outer").as_uri()
    where = {"uri": stored.uri} if by == "uri" else {"uri": "", "reference": own}
    outer = write_adapter(**where, digest=stored.digest, name="outer")
    with pytest.raises(InvalidArtifact, match="is an adapter, but an adapter's base must be a complete model"):
        resolve(outer.as_uri(), cache_dir=tmp_path / "cache", artifacts=store)


def test_a_base_that_is_a_preset_is_refused(tmp_path: Path, store: ArtifactStore, write_adapter: WriteAdapter) -> None:
    adapter = write_adapter("", reference="preset://tiny", digest=resolve("preset://tiny", cache_dir=tmp_path).digest)
    with pytest.raises(InvalidArtifact, match="needs its base model preset://tiny"):
        resolve(adapter.as_uri(), cache_dir=tmp_path / "cache", artifacts=store)


ESCAPES = json.dumps({"reference": "file:///x\x1b[2J", "digest": DIGEST})


@pytest.mark.parametrize(
    "text", ["[" * 60_000, '{"reference": "' + "x" * 100_000 + '"}', "[]", '{"reference": 1}', ESCAPES]
)
def test_a_base_model_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "base_model.json").write_text(text)
    with pytest.raises(InvalidArtifact):
        read_base_model(tmp_path)


@pytest.mark.parametrize("hostile", HOSTILE, indirect=True)
def test_an_adapter_for_a_loaded_model_opens_nothing_but_its_own_files(
    tmp_path: Path, hostile: str, listener: Listener, write_adapter: WriteAdapter
) -> None:
    adapter = write_adapter(hostile)
    before = files_of(tmp_path)
    found = resolve_adapter(adapter.as_uri(), cache_dir=tmp_path / "cache")
    assert (found.path, found.base.digest) == (adapter, DIGEST)
    assert (listener.connections, files_of(tmp_path)) == ([], before)


def test_the_merge_command_refuses_what_a_registry_says_of_an_adapter(
    tmp_path: Path, listener: Listener, store: ArtifactStore, write_adapter: WriteAdapter
) -> None:
    outside = write_adapter("", reference="file:///no/such/model", name="outside")
    uris = {
        f"reference::{listener.url}/refs.json": "is not the URI of an artifact",
        outside.as_uri(): "is not below",
        f"{store.root_uri}/../outside": "must not hold",
    }
    before = files_of(tmp_path)
    for uri, message in uris.items():
        files = [
            common_pb2.ArtifactFile(path=f.path, digest=f.digest, size_bytes=f.size_bytes)
            for f in directory_digest(outside)[1]
        ]
        artifact = common_pb2.Artifact(uri=uri, digest=directory_digest(outside)[0], files=files)
        model = ModelVersion(
            models_pb2.ModelVersion(id="model-1", format=models_pb2.MODEL_FORMAT_PEFT_ADAPTER, artifact=artifact)
        )
        with pytest.raises(FailedPrecondition, match=f"model-1 cannot be merged: .*{message}"):
            merge_adapter(model, tmp_path / "out", artifacts_uri=store.root_uri)
    assert (listener.connections, files_of(tmp_path)) == ([], before)


def test_the_merge_module_needs_a_root_for_any_uri(tmp_path: Path, listener: Listener) -> None:
    command = [sys.executable, "-m", "tunix_rt.models.merge", f"--adapter=reference::{listener.url}/refs.json"]
    command += [f"--digest={DIGEST}", f"--out={tmp_path / 'out'}", f"--cache-dir={tmp_path / 'cache'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, listener.connections) == (1, "", [])
    assert "artifacts: is required" in done.stderr
    assert not files_of(tmp_path)
