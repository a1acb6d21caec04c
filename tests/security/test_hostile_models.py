"""A corpus of hostile models against one real inferencer: each gets a named error, and a good model still answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from tests.security.hostile_models import CORPUS, Hostile, good_model, prepare
from tests.security.inferencer_process import MORE_BYTES, NAMED, SECONDS, TOKEN, Inferencer, running_inferencer


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "good"
    good_model(directory)
    return directory


@pytest.fixture(scope="module")
def inferencer(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inferencer]:
    with running_inferencer(tmp_path_factory.mktemp("inferencer"), good) as running:
        yield running


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CORPUS])
def test_hostile_model_gets_a_named_error_and_harms_nobody(
    case: Hostile, inferencer: Inferencer, good: Path, tmp_path: Path
) -> None:
    reference = prepare(case, good, tmp_path)
    before, started = inferencer.resident_bytes, time.monotonic()
    if case.says:
        with pytest.raises(grpc.RpcError) as refused:
            loaded = inferencer.load(reference)
            assert case.when == "chat", f"{case.name} was loaded"
            inferencer.chat(loaded.handle, "a" * 60 + "b")
        assert refused.value.code() in NAMED, refused.value.details()
        assert case.says in refused.value.details()
        assert (time.monotonic() - started) < SECONDS
    else:
        inferencer.load(reference)  # what is hostile in it is never read
    assert inferencer.resident_bytes - before < MORE_BYTES
    assert inferencer.serving()
    assert inferencer.chat(inferencer.load(good.as_uri()).handle)


def test_processes_that_parse_models_hold_no_secret(inferencer: Inferencer) -> None:
    children = inferencer.process.children(recursive=True)
    readers = [child for child in children if "tunix_rt.models.reading.worker" in child.cmdline()]
    assert readers
    for reader in readers:
        environment = reader.environ()
        assert not [name for name in environment if name.startswith("TUNIX_RT") or "PASSWORD" in name]
        assert TOKEN not in environment.values() and TOKEN not in " ".join(reader.cmdline())


def test_a_prompt_that_cannot_fit_does_not_delay_others(inferencer: Inferencer) -> None:
    text = "what is two and three ? " * ((15 << 20) // 24)

    def long_prompt() -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as refused:
            inferencer.chat(inferencer.good, text, timeout=60)
        return refused.value

    alone = sorted(_seconds(lambda: inferencer.chat(inferencer.good)) for _ in range(20))
    waits: list[float] = []
    with ThreadPoolExecutor(1) as other:
        for _ in range(3):
            refused = other.submit(long_prompt)
            while not refused.done():
                waits.append(_seconds(lambda: inferencer.chat(inferencer.good)))
            error = refused.result()
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "bytes; this model takes at most 127 tokens" in error.details()
    # The client itself takes most of the time to send 15 MB; what the service adds stays below half a second.
    assert max(waits) < max(alone) + 0.5


def test_a_template_that_loops_delays_its_own_model_only(inferencer: Inferencer, good: Path, tmp_path: Path) -> None:
    case = next(case for case in CORPUS if case.name == "template_loops")
    references = [prepare(case, good, tmp_path / str(number)) for number in range(4)]

    def looping(reference: str) -> None:
        hostile = inferencer.load(reference).handle  # a template is tried when it is loaded
        with pytest.raises(grpc.RpcError, match="chat template"):
            inferencer.chat(hostile)

    waits: list[float] = []
    with ThreadPoolExecutor(4) as others:
        refused = [others.submit(looping, reference) for reference in references]
        while not all(each.done() for each in refused):
            waits.append(_seconds(lambda: inferencer.chat(inferencer.good)))
            assert inferencer.serving()
        for each in refused:
            each.result()
    assert len(waits) > 3  # it went on for seconds
    assert sorted(waits)[len(waits) // 2] < 0.5


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def test_a_missing_and_a_forbidden_model_get_the_same_answer(inferencer: Inferencer) -> None:
    answers = set()
    for reference in ("file:///etc", "file:///no/such/place", "gguf:///etc/passwd", "gguf:///no/such.gguf"):
        with pytest.raises(grpc.RpcError) as refused:
            inferencer.load(reference)
        answers.add((refused.value.code(), refused.value.details().replace(reference, "X")))
    assert answers == {
        (grpc.StatusCode.NOT_FOUND, "X does not exist, or is not in a directory of TUNIX_RT_MODEL_ROOTS")
    }
