"""Bad input costs no more than its first violations, whichever door it comes in by."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.fixtures.grpc_server import serving
from tests.security.conftest import Platform, refusal, request_id

from tunix_rt.errors import InvalidInput
from tunix_rt.evaluator.scoring_servicer import ScoringServicer
from tunix_rt.evidence import archive
from tunix_rt.evidence.verify import verify
from tunix_rt.inferencer.http.chat import read_chat
from tunix_rt.inferencer.http.fields import json_object
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.scoring import score_item
from tunix_rt.rpc.channel import open_channel
from tunix_rt.trainer.servicer import TrainingServicer
from tunix_rt.v1 import (
    datasets_pb2,
    runs_pb2,
    scoring_pb2,
    scoring_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
)

_MIB = 1 << 20


@contextmanager
def bounded(seconds: float, mebibytes: int, clock: Callable[[], float] = time.process_time) -> Iterator[None]:
    """Fails when the block takes more processor time or leaves more memory in use.

    ``clock``: `time.thread_time` for work in this thread alone; services that other tests started go on in theirs.
    """
    process = psutil.Process()
    started, before = clock(), process.memory_info().rss
    yield
    assert clock() - started < seconds
    assert process.memory_info().rss - before < mebibytes * _MIB


async def test_import_of_256_mebibytes_of_bad_lines_ends_at_its_beginning(platform: Platform) -> None:
    chunk = b"{}\n" * (_MIB // 3)

    async def parts() -> AsyncIterator[datasets_pb2.ImportDatasetRequest]:
        spec = datasets_pb2.ImportDatasetSpec(request_id=request_id(), key="mine")
        yield datasets_pb2.ImportDatasetRequest(spec=spec)
        for _ in range(256):
            yield datasets_pb2.ImportDatasetRequest(chunk=chunk)

    with bounded(5, 300):
        refused = await refusal(platform.caller("ann:editor").datasets.ImportDataset(parts(), timeout=60))
    assert refused.kind is InvalidInput, refused.text
    assert "line 1.prompt" in refused.fields


async def test_import_that_goes_bad_later_names_the_first_hundred_violations(platform: Platform) -> None:
    good = {
        "trace_version": "1.0",
        "prompt": "p",
        "final_answer": "a",
        "steps": [{"i": 0, "type": "t", "content": "c"}],
    }
    data = (json.dumps(good) + "\n").encode() * 4_000 + b"{}\n" * 500_000

    async def parts() -> AsyncIterator[datasets_pb2.ImportDatasetRequest]:
        spec = datasets_pb2.ImportDatasetSpec(request_id=request_id(), key="mine")
        yield datasets_pb2.ImportDatasetRequest(spec=spec)
        for start in range(0, len(data), _MIB):
            yield datasets_pb2.ImportDatasetRequest(chunk=data[start : start + _MIB])

    with bounded(5, 100):
        refused = await refusal(platform.caller("ann:editor").datasets.ImportDataset(parts(), timeout=60))
    assert "line 4001.prompt" in refused.fields


async def test_evalset_of_bad_lines_gets_a_short_answer() -> None:
    def register(server: Any) -> tuple[str, ...]:
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server(ScoringServicer(), server)
        return ()

    async with serving(register) as port, open_channel(f"127.0.0.1:{port}", token=None) as channel:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)
        request = scoring_pb2.ValidateEvalSetRequest(jsonl=b"{}\n" * (15 * _MIB // 3))
        with bounded(5, 300):
            answer = await stub.ValidateEvalSet(request, timeout=60)
    assert not answer.valid
    assert len(answer.violations) == 101
    assert "more violations" in answer.violations[-1].description
    assert answer.ByteSize() < 64 * 1024


def test_body_with_700k_unknown_fields_gets_a_short_answer() -> None:
    body = ("{" + ",".join(f'"field {number}":0' for number in range(700_000)) + "}").encode()
    with bounded(5, 300, time.thread_time), pytest.raises(InvalidInput) as refused:
        read_chat(json_object(body))
    assert len(refused.value.violations) <= 101
    assert len(str(refused.value)) < 64 * 1024


@pytest.mark.parametrize("unit", ["\\boxed{", "\\boxed{\\text{", "\\(\\boxed{", "**\\boxed{", "\\boxed{$\\boxed{"])
@pytest.mark.parametrize("size", [9_600, 40_000, 1_000_000])
@pytest.mark.parametrize("answer_type", ["text", "numeric", "set", "choice"])
def test_boxes_inside_one_another_are_scored_in_linear_time(unit: str, size: int, answer_type: str) -> None:
    closing = "".join({"{": "}", "(": "\\)", "*": "*"}.get(letter, "") for letter in reversed(unit))
    count = size // (len(unit) + len(closing))
    item = EvalItem(id="a", prompt="q", expected_answer="C", answer_type=answer_type)
    if answer_type == "numeric":
        item = EvalItem(id="a", prompt="q", expected_answer="7", answer_type=answer_type)
    nested = unit * count + item.expected_answer + closing * count
    with bounded(0.5 + 1.5e-6 * size, 100, time.thread_time):  # twice
        score_item(item, f"<reasoning>r</reasoning><answer>{nested}</answer>")
        score_item(item, nested)


def test_boxes_inside_one_another_still_give_their_content() -> None:
    item = EvalItem(id="a", prompt="q", expected_answer="42", answer_type="numeric")
    for nested in ("\\boxed{\\boxed{42}}", "$\\boxed{ $\\boxed{42}$. }$.", "\\boxed{" * 500 + "42" + "}" * 500):
        assert score_item(item, nested).metrics["answer_correctness"] == 1.0
    assert score_item(item, "\\boxed{\\boxed{42} or \\boxed{43}}").metrics["answer_correctness"] == 0.0


@cache
def _zeros(size: int) -> tuple[bytes, int]:
    """``size`` zeros deflated, and their CRC."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block, crc = bytes(_MIB), 0
    packed = []
    for _ in range(size // _MIB):
        packed.append(packer.compress(block))
        crc = zlib.crc32(block, crc)
    return b"".join([*packed, packer.flush()]), crc


def _zip_of(sizes: dict[str, int]) -> bytes:
    """A zip as evidence is written, whose files hold nothing but zeros."""
    body, entries = bytearray(), []
    for name, size in sorted(sizes.items()):
        packed, crc = _zeros(size)
        entry = archive._Entry(name.encode(), crc, len(packed), size, len(body))
        entries.append(entry)
        body += entry.local_header() + packed
    directory = b"".join(entry.central_header() for entry in entries)
    before = bytes(body) + directory
    return before + archive._end_record(len(entries), len(directory), len(body), before)


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"README.md": 260 * _MIB, "predictions.jsonl": 260 * _MIB}, "bytes together"),
        ({"README.md": _MIB, "bomb.json": 260 * _MIB}, "bomb.json"),
        pytest.param({f"{n}.json": 256 * _MIB for n in range(14)}, "bytes together", marks=pytest.mark.slow),
    ],
)
def test_evidence_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(sizes: dict[str, int], reason: str) -> None:
    data = _zip_of(sizes)
    assert len(data) < 4 * _MIB
    peak = _peak_mebibytes()
    with bounded(1, 100):
        found = verify(data)
    assert not found.ok
    assert any(reason in f"{problem.file} {problem.reason}" for problem in found.problems)
    assert _peak_mebibytes() - peak < 100


def _peak_mebibytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmHWM:"))


async def test_fifty_validations_at_once_take_two_processes_at_most(tmp_path: Path) -> None:
    servicer = TrainingServicer("cpu", tmp_path, lambda: "", artifacts_uri=(tmp_path / "store").as_uri())

    def register(server: Any) -> tuple[str, ...]:
        training_pb2_grpc.add_TrainingServiceServicer_to_server(servicer, server)
        return ()

    request = training_pb2.ValidateRequest(spec=runs_pb2.RunSpec(base_model="preset://tiny"))
    own = psutil.Process()
    before = {child.pid for child in own.children(recursive=True)}
    most = 0
    async with serving(register) as port, open_channel(f"127.0.0.1:{port}", token=None) as channel:
        stub = training_pb2_grpc.TrainingServiceStub(channel)
        asked = [asyncio.ensure_future(stub.Validate(request, timeout=120)) for _ in range(50)]
        while not any(each.done() for each in asked):
            most = max(most, len({child.pid for child in own.children(recursive=True)} - before))
            await asyncio.sleep(0.02)
        answered = [each.result().devices for each in asked if each.done()]  # in whatever order the calls arrived
        assert min(answered) >= 1
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        with pytest.raises(Exception, match="checks are waiting"):
            await asyncio.gather(*(stub.Validate(request, timeout=120) for _ in range(150)))
    assert 1 <= most <= 2
