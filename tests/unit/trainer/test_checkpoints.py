from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tunix_rt.artifacts import ArtifactStore, StoredFile
from tunix_rt.contract.hyperparameters import Hyperparameters
from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer.engine.checkpoint_store import MirroredCheckpoints, open_checkpoints
from tunix_rt.trainer.engine.checkpoints import Best, CheckpointDirectory
from tunix_rt.trainer.engine.optimizer import coefficients_of
from tunix_rt.trainer.engine.orbax_checkpoints import (
    Position,
    adopt,
    read_position,
    read_state,
    write_position,
    write_state,
)
from tunix_rt.trainer.engine.step import TrainState, initial_state
from tunix_rt.trainer.job import ArtifactRef, InitialCheckpoint, Job

# A refused load ends Orbax's event loop while TensorStore still reads: each of those reads then complains of the
# closed loop, in whichever test runs by then.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def fill(text: str):  # type: ignore[no-untyped-def]
    def write(directory: Path) -> None:
        (directory / "state").mkdir()
        (directory / "state" / "weights").write_text(text)
        (directory / "position.json").write_text("{}")

    return write


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointDirectory:
    return CheckpointDirectory(tmp_path / "run", "run-1 sha256:0", keep=2)


def test_the_last_two_are_kept_and_the_removed_ones_named(checkpoints: CheckpointDirectory) -> None:
    removed = [checkpoints.write(step, fill(str(step)))[1] for step in (10, 20, 30, 40)]
    assert removed == [[], [], [10], [20]]
    assert checkpoints.steps() == [40, 30]
    assert (checkpoints.open(30) / "state" / "weights").read_text() == "30"


def write_all(checkpoints: CheckpointDirectory, losses: dict[int, float | None]) -> list[list[int]]:
    return [checkpoints.write(step, fill(str(step)), eval_loss=loss)[1] for step, loss in losses.items()]


def test_the_best_is_kept_beside_the_last_two_until_a_better_one_comes(checkpoints: CheckpointDirectory) -> None:
    removed = write_all(checkpoints, {10: 3.0, 20: 1.5, 30: 2.0, 40: None, 50: 1.5, 60: 1.75, 70: 1.0, 80: 4.0})
    assert removed == [[], [], [10], [], [30], [40], [50, 20], [60]]
    assert checkpoints.steps() == [80, 70]


def test_the_best_is_known_to_whoever_opens_the_directory_next(tmp_path: Path) -> None:
    for step, loss in {10: 2.0, 20: 1.0, 30: 3.0}.items():
        CheckpointDirectory(tmp_path / "run", "run-1 sha256:0", keep=1).write(step, fill("x"), eval_loss=loss)
    another = CheckpointDirectory(tmp_path / "run", "run-1 sha256:0", keep=1)
    assert another.steps() == [30, 20]
    assert another.best(30) == Best(20, 1.0)
    # A run that fell back to an earlier step does not count what lies ahead of it.
    assert another.best(15) is None
    damage(tmp_path / "run" / "20", "torn manifest")
    assert another.best(30) == Best(30, 3.0)


def test_without_held_out_losses_there_is_no_best(checkpoints: CheckpointDirectory) -> None:
    assert write_all(checkpoints, {1: None, 2: None, 3: None}) == [[], [], [1]]
    assert checkpoints.best(3) is None


def test_a_process_killed_while_writing_leaves_no_checkpoint(checkpoints: CheckpointDirectory, tmp_path: Path) -> None:
    checkpoints.write(10, fill("10"))

    def dies_halfway(directory: Path) -> None:
        (directory / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.write(20, dies_halfway)
    assert checkpoints.steps() == [10]
    assert any(path.name.startswith("tmp-") for path in (tmp_path / "run").iterdir())
    checkpoints.clear_staging()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["10"]


def damage(directory: Path, how: str) -> None:
    weights = directory / "data" / "state" / "weights"
    match how:
        case "truncated":
            weights.write_text("fou")
        case "changed":
            weights.write_text("foul!")
        case "missing":
            weights.unlink()
        case "no manifest":
            (directory / "MANIFEST.json").unlink()
        case "torn manifest":
            (directory / "MANIFEST.json").write_text('{"format": 1, "fil')


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", r"state/weights has 3 bytes, expected 5 \(truncated\?\)"),
        ("changed", "state/weights has changed"),
        ("missing", "state/weights is missing"),
        ("no manifest", "has no MANIFEST.json"),
        ("torn manifest", "is not JSON"),
    ],
)
def test_a_damaged_checkpoint_is_refused_with_what_is_wrong(
    checkpoints: CheckpointDirectory, tmp_path: Path, how: str, message: str
) -> None:
    checkpoints.write(10, fill("right"))
    damage(tmp_path / "run" / "10", how)
    with pytest.raises(InvalidArtifact, match=message):
        checkpoints.open(10)


def test_a_damaged_checkpoint_can_be_written_again(checkpoints: CheckpointDirectory, tmp_path: Path) -> None:
    checkpoints.write(10, fill("right"))
    damage(tmp_path / "run" / "10", "truncated")
    checkpoints.write(10, fill("again"))
    assert (checkpoints.open(10) / "state" / "weights").read_text() == "again"


def test_a_checkpoint_of_another_spec_is_not_resumed_from(checkpoints: CheckpointDirectory, tmp_path: Path) -> None:
    checkpoints.write(10, fill("10"))
    with pytest.raises(InvalidArtifact, match="belongs to 'run-1 sha256:0'"):
        CheckpointDirectory(tmp_path / "run", "run-1 sha256:1").open(10)


def job(tmp_path: Path) -> Job:
    return Job(
        run_id="run-1",
        attempt=1,
        spec_digest="sha256:0",
        base_model="preset://tiny",
        dataset_id="ds-1",
        dataset=ArtifactRef("file:///d", "sha256:1"),
        hyperparameters=Hyperparameters(),
        artifacts_uri="s3://bucket/store",
        work_dir=str(tmp_path),
        cache_dir=str(tmp_path / "cache-a"),
    )


def remote(tmp_path: Path) -> ArtifactStore:
    """An object store in this process's memory."""
    root = f"s3://bucket/{tmp_path.name}"
    return ArtifactStore(root, cache_dir=tmp_path / "downloads", filesystem=MemoryFileSystem())


def test_a_remote_store_is_resumed_from_on_another_machine(tmp_path: Path) -> None:
    store = remote(tmp_path)
    here = open_checkpoints(store, job(tmp_path))
    assert isinstance(here, MirroredCheckpoints)
    losses = {1: None, 2: 0.5, 3: None, 4: 0.75}
    stored = [here.write(step, fill(str(step)), eval_loss=loss) for step, loss in losses.items()]
    assert stored[2][0].uri == f"{store.root_uri}/checkpoints/run-1/3"
    assert [removed for _, removed in stored] == [[], [], [1], []]
    there = open_checkpoints(store, replace(job(tmp_path), cache_dir=str(tmp_path / "cache-b")))
    assert there.steps() == [4, 3, 2]
    assert there.best(4) == Best(2, 0.5)
    assert (there.open(3) / "state" / "weights").read_text() == "3"
    assert there.write(5, fill("5"))[1] == [3]


def hostile_manifest(path: str, size: int = 5) -> Callable[[MemoryFileSystem, str], None]:
    def change(filesystem: MemoryFileSystem, place: str) -> None:
        manifest = json.loads(filesystem.cat_file(f"{place}/MANIFEST.json"))
        manifest["files"] = {path: {"sha256": f"sha256:{'0' * 64}", "size_bytes": size}}
        filesystem.pipe_file(f"{place}/MANIFEST.json", json.dumps(manifest).encode())

    return change


def hostile_file(name: str, content: bytes = b"evil") -> Callable[[MemoryFileSystem, str], None]:
    return lambda filesystem, place: filesystem.pipe_file(f"{place}/data/{name}", content)


@pytest.mark.parametrize(
    "change",
    [
        hostile_manifest("../../../escaped"),
        hostile_manifest("/escaped"),
        hostile_manifest("a\0b"),
        hostile_manifest("state/weights", size=-1),
        hostile_file("../../../../escaped"),
        hostile_file("one-more"),
        hostile_file("state/weights", b"larger than the manifest says"),
        hostile_file("state/weights", b""),
        lambda filesystem, place: filesystem.pipe_file(f"{place}/MANIFEST.json", b"[" * 100_000),
        lambda filesystem, place: filesystem.pipe_file(f"{place}/MANIFEST.json", b'{"format": 1, "files": {"a": 1}}'),
    ],
    ids=lambda change: change.__qualname__,
)
def test_a_remote_checkpoint_that_is_not_as_written_leaves_no_file(
    tmp_path: Path, change: Callable[[MemoryFileSystem, str], None]
) -> None:
    store = remote(tmp_path)
    open_checkpoints(store, job(tmp_path)).write(4, fill("4"))
    change(store.filesystem, f"bucket/{tmp_path.name}/checkpoints/run-1/4")
    before = sorted(tmp_path.rglob("*"))
    there = open_checkpoints(store, replace(job(tmp_path), cache_dir=str(tmp_path / "cache-b")))
    with pytest.raises(InvalidArtifact):
        there.open(4)
    made = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert not [path for path in made if path.is_file() or path.name.startswith("tmp-")]


@pytest.mark.parametrize("run_id", ["../run-2", "/run-2", ""])
def test_the_checkpoints_of_a_run_are_its_own(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(InvalidArtifact):
        open_checkpoints(remote(tmp_path), replace(job(tmp_path), run_id=run_id))


@pytest.mark.parametrize(
    "uri", ["file:///etc", "reference::http://127.0.0.1:9/x", "s3://bucket/elsewhere", "{root}/.."]
)
def test_a_checkpoint_outside_of_the_store_is_not_adopted(tmp_path: Path, uri: str) -> None:
    store = remote(tmp_path)
    _, own, initial = adopted_from(store, tmp_path)
    with pytest.raises(InvalidArtifact, match="is gone or has changed"):
        adopt(replace(initial, uri=uri.replace("{root}", store.root_uri)), store, own)
    assert own.steps() == []


def adopted_from(
    store: ArtifactStore, tmp_path: Path
) -> tuple[CheckpointDirectory, CheckpointDirectory, InitialCheckpoint]:
    """Checkpoints of a run with one at step 4, of a run that starts from it, and what the registry says of that one."""
    source = open_checkpoints(store, replace(job(tmp_path), run_id="run-0"))

    def fill_state(directory: Path) -> None:
        fill("state")(directory)
        write_position(directory, Position({"examples_seen": 8}, 3, unreported=({"step": 4},), watch={"streak": 1}))

    stored, _ = source.write(4, fill_state, eval_loss=0.5)
    return source, open_checkpoints(store, job(tmp_path)), InitialCheckpoint("run-0", 4, stored.uri, stored.digest)


@pytest.mark.parametrize("scheme", ["file", "s3"])
def test_an_adopted_checkpoint_outlives_its_source_and_leaves_it_as_it_is(tmp_path: Path, scheme: str) -> None:
    store = ArtifactStore((tmp_path / "store").as_uri()) if scheme == "file" else remote(tmp_path)
    source, own, initial = adopted_from(store, tmp_path)
    stored, removed = adopt(initial, store, own)
    assert (stored.step, removed, own.steps()) == (4, [], [4])
    # The metric rows that the source had to report are not this run's to report.
    assert read_position(source.open(4)).unreported == ({"step": 4},)
    source.discard(4)
    assert (own.open(4) / "state" / "weights").read_text() == "state"
    assert read_position(own.open(4)) == Position({"examples_seen": 8}, 3, (), {"streak": 1})
    # What its source measured on it does not make it the best of a run that has measured nothing.
    assert own.best(4) is None


def test_a_source_that_is_gone_or_changed_is_not_adopted(tmp_path: Path) -> None:
    store = ArtifactStore((tmp_path / "store").as_uri())
    source, own, initial = adopted_from(store, tmp_path)
    damage(tmp_path / "store" / "checkpoints" / "run-0" / "4", "changed")
    with pytest.raises(InvalidArtifact, match="step 4 of run run-0, which is gone or has changed"):
        adopt(initial, store, own)
    source.discard(4)
    with pytest.raises(InvalidArtifact, match="step 4 of run run-0, which is gone"):
        adopt(initial, store, own)
    assert own.steps() == []


def test_a_job_file_says_what_was_written(tmp_path: Path) -> None:
    original = replace(
        job(tmp_path),
        recorded_steps=(5, 3),
        base_model_artifact=ArtifactRef("file:///m", "sha256:2", (StoredFile("a", "sha256:3", 4),)),
        initial_checkpoint=InitialCheckpoint("run-0", 5, "file:///c", "sha256:3"),
    )
    original.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == original


def some_state(decoder: Decoder) -> TrainState:
    _, state, _ = initial_state(decoder, coefficients_of(Hyperparameters(), 10))
    source = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jax.numpy.asarray(source.standard_normal(leaf.shape), leaf.dtype), state)


def test_state_and_position_come_back_bit_for_bit(decoder: Decoder, tmp_path: Path) -> None:
    state = some_state(decoder)
    row = {"step": 3, "time": 1.5, "values": {"loss": 0.1}}
    position = Position(
        {"order": {"next_index": 7}, "examples_seen": 7}, seed=11, unreported=(row,), watch={"streak": 2}
    )
    write_state(tmp_path, state, position)
    restored, found = read_state(tmp_path, jax.tree.map(jax.numpy.zeros_like, state))
    assert found == position
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_arrays_that_do_not_fit_the_model_are_refused(decoder: Decoder, tmp_path: Path) -> None:
    state = some_state(decoder)
    write_state(tmp_path, state, Position({}, 0))
    wider = jax.tree.map(lambda leaf: jax.numpy.zeros((*leaf.shape, 2), leaf.dtype), state)
    with pytest.raises(InvalidArtifact, match="do not fit"):
        read_state(tmp_path, wider)


def test_the_position_is_readable_json(decoder: Decoder, tmp_path: Path) -> None:
    write_state(tmp_path, some_state(decoder), Position({"examples_seen": 4}, 2))
    document = json.loads((tmp_path / "position.json").read_text())
    assert document == {"data": {"examples_seen": 4}, "seed": 2, "unreported": [], "watch": {}}
