from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Sequence

import pytest

from tunix_rt.artifacts import StoredArtifact, StoredFile
from tunix_rt.contract.hyperparameters import Hyperparameters, Lora, Mesh, check_hyperparameters
from tunix_rt.contract.messages import hyperparameters_of
from tunix_rt.errors import (
    Aborted,
    Exhausted,
    FieldViolation,
    InvalidArtifact,
    InvalidInput,
    NotFound,
    Transient,
    Violations,
)
from tunix_rt.trainer.engine.failures import Diverged, cause_of
from tunix_rt.trainer.messages import (
    Acknowledged,
    CheckpointWritten,
    Completed,
    Failed,
    HandBack,
    HandedBack,
    Logged,
    MetricsMeasured,
    ProgressMade,
    Resumed,
    decode,
    encode,
)
from tunix_rt.trainer.reporting import LogRecord, Reporter
from tunix_rt.v1 import runs_pb2
from tunix_rt.worker.jobs import Lease

LEASE = Lease("run-1", "att-1", 3)


@pytest.mark.parametrize(
    "message",
    [
        ProgressMade("training", 3, 9),
        Resumed(3),
        MetricsMeasured(3, 1.5, {"loss": 0.1}),
        Logged("info", "two\nlines and ⟨unicode⟩", 2.5),
        CheckpointWritten(5, "file:///c/5", "sha256:0", 9, (1, 2)),
        Completed(9, StoredArtifact("file:///m", "sha256:1", 3, (StoredFile("a", "sha256:2", 3),)), {"seed": "1"}),
        Failed("DIVERGED", "loss is nan", False),
        HandedBack(4),
        Acknowledged(3),
        HandBack(),
    ],
)
def test_every_message_survives_its_line(message) -> None:  # type: ignore[no-untyped-def]
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode(line) == message


@pytest.mark.parametrize("line", [b"{}", b"[]", b'{"kind":"Failed"}', b'{"kind":"Progr', b"WARNING: library noise"])
def test_a_line_that_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode(line)


class AwayReports:
    """A registry that is away ``failures`` times, and then keeps what it is told."""

    def __init__(self, failures: int = 0, *, lost: bool = False) -> None:
        self.failures, self.lost = failures, lost
        self.rows: list[MetricsMeasured] = []
        self.lines: list[LogRecord] = []
        self.checkpoints: list[int] = []
        self.got_rows = asyncio.Event()

    def _answer(self) -> None:
        if self.lost:
            raise Aborted("epoch 3 is over")
        if self.failures:
            self.failures -= 1
            raise Transient("away") if self.failures % 2 else Exhausted("full", 0.01)

    async def cancellation(self, run_id: str) -> str:
        raise Transient("away")

    async def metrics(self, lease: Lease, rows: Sequence[MetricsMeasured]) -> None:
        self._answer()
        self.rows += rows
        self.got_rows.set()

    async def logs(self, lease: Lease, lines: Sequence[LogRecord]) -> None:
        self._answer()
        self.lines += lines

    async def checkpoint(self, lease: Lease, checkpoint: CheckpointWritten) -> None:
        self._answer()
        self.checkpoints.append(checkpoint.step)


async def test_what_is_reported_while_the_registry_is_away_arrives_once_and_in_order() -> None:
    registry, acknowledged = AwayReports(failures=3), list[int]()
    reporter = Reporter(registry, LEASE, acknowledged.append)
    rows = [MetricsMeasured(step, 0.0, {"loss": 1.0}) for step in range(1, 1201)]
    for row in rows:
        reporter.metrics(row)
    reporter.log("info", "first", 1.0)
    reporter.log("warning", "second", 2.0)
    reporter.checkpoint(CheckpointWritten(5, "u", "d", 1))
    await reporter.flush()
    assert registry.rows == rows
    assert [(line.sequence, line.text) for line in registry.lines] == [(1, "first"), (2, "second")]
    assert registry.checkpoints == [5]
    # In batches, and only what the registry has confirmed.
    assert acknowledged == [400, 800, 1200]


async def test_a_flush_that_is_cancelled_loses_nothing() -> None:
    registry = AwayReports(failures=10**6)
    reporter = Reporter(registry, LEASE, lambda step: None)
    reporter.metrics(MetricsMeasured(1, 0.0, {"loss": 1.0}))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(reporter.flush(), 0.05)
    registry.failures = 0
    await reporter.flush()
    assert [row.step for row in registry.rows] == [1]


async def test_held_out_losses_do_not_wait_for_the_next_batch() -> None:
    registry = AwayReports()
    reporter = Reporter(registry, LEASE, lambda step: None)
    reporting = asyncio.create_task(reporter.run(1000))
    try:
        reporter.metrics(MetricsMeasured(1, 0.0, {"loss": 1.0}))
        async with asyncio.timeout(5):
            await registry.got_rows.wait()
        registry.got_rows.clear()
        reporter.metrics(MetricsMeasured(2, 0.0, {"loss": 1.0}))
        reporter.metrics(MetricsMeasured(3, 0.0, {"loss": 1.0, "eval_loss": 2.0}))
        async with asyncio.timeout(5):
            await registry.got_rows.wait()
        assert [row.step for row in registry.rows] == [1, 2, 3]
    finally:
        reporting.cancel()


async def test_two_flushes_at_once_send_everything_once() -> None:
    registry = AwayReports(failures=3)
    reporter = Reporter(registry, LEASE, lambda step: None)
    for step in range(1, 1001):
        reporter.metrics(MetricsMeasured(step, 0.0, {"loss": 1.0}))
    await asyncio.gather(reporter.flush(), reporter.flush())
    assert [row.step for row in registry.rows] == list(range(1, 1001))


async def test_a_lost_lease_stops_reporting_at_once() -> None:
    reporter = Reporter(AwayReports(lost=True), LEASE, lambda step: None)
    reporter.log("info", "too late")
    with pytest.raises(Aborted):
        await reporter.run(0.01)


@pytest.mark.parametrize(
    ("error", "reason", "retryable"),
    [
        (InvalidInput([FieldViolation("lora", "no")]), "INVALID_SPEC", False),
        (NotFound("no such package"), "INVALID_SPEC", False),
        (InvalidArtifact("truncated"), "INVALID_ARTIFACT", False),
        (Diverged("nan"), "DIVERGED", False),
        (MemoryError("no memory"), "OUT_OF_MEMORY", False),
        (Transient("the hub is away"), "INTERNAL", True),
        (OSError("disk full"), "INTERNAL", True),
    ],
)
def test_every_error_has_its_reason(error: Exception, reason: str, retryable: bool) -> None:
    cause = cause_of(error)
    assert (cause.reason, cause.retryable) == (reason, retryable)
    assert str(error) in cause.text


def test_an_allocation_that_xla_refuses_is_out_of_memory() -> None:
    import jax

    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(jax.numpy.zeros((1 << 22, 1 << 20)))
    cause = cause_of(caught.value)
    assert cause.reason == "OUT_OF_MEMORY"
    assert "per_device_batch_size" in cause.text


def test_every_problem_of_a_spec_is_named_at_once() -> None:
    found = Violations("spec.hyperparameters.")
    bad = Hyperparameters(
        learning_rate=0,
        per_device_batch_size=0,
        max_steps=None,
        max_seq_length=4,
        lr_scheduler_type="step",
        adam_beta1=1.0,
        eval_steps=-1,
        eval_fraction=0.6,
        save_total_limit=0,
        lora=Lora(0, alpha=-1.0, dropout=1.0),
        mesh=Mesh(fsdp=0),
    )
    check_hyperparameters(bad, found)
    assert {v.field.removeprefix("spec.hyperparameters.") for v in found} == {
        "learning_rate",
        "per_device_batch_size",
        "max_steps",
        "max_seq_length",
        "lr_scheduler_type",
        "adam_beta1",
        "eval_steps",
        "eval_fraction",
        "save_total_limit",
        "lora.rank",
        "lora.alpha",
        "lora.dropout",
        "mesh.fsdp",
    }
    check_hyperparameters(Hyperparameters(), fine := Violations())
    assert not fine.found


def test_unset_hyperparameters_take_the_defaults_of_the_contract() -> None:
    assert hyperparameters_of(runs_pb2.Hyperparameters()) == Hyperparameters()
    found = hyperparameters_of(runs_pb2.Hyperparameters(num_epochs=1.5, weight_decay=0.0, seed=7, packing=True))
    assert found == dataclasses.replace(Hyperparameters(), max_steps=None, num_epochs=1.5, seed=7, packing=True)
