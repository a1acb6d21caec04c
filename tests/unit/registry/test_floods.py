"""When a queue counts as flooded: 200 claims in vain within 30 s, by subject."""

from __future__ import annotations

from tunix_rt.registry.jobs.kinds import command_subject
from tunix_rt.registry.kernel.floods import Floods
from tunix_rt.v1 import jobs_pb2


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_two_hundred_claims_in_vain_within_half_a_minute_are_a_flood_once() -> None:
    clock = Clock()
    floods = Floods(clock)
    for _ in range(199):
        floods.note("tunix.cmd.evaluate")
        floods.note("tunix.cmd.tune")
    assert floods.flooded() == []
    floods.note("tunix.cmd.evaluate")
    assert floods.flooded() == ["tunix.cmd.evaluate"]
    assert floods.flooded() == []


def test_slower_ones_are_none() -> None:
    clock = Clock()
    floods = Floods(clock)
    for _ in range(1000):
        floods.note("tunix.cmd.evaluate")
        clock.now += 0.16  # 200 in 32 s
        assert floods.flooded() == []


def test_only_the_subject_of_a_known_kind_and_pool_is_ever_emptied() -> None:
    """A subject is a filter of a purge: a pool named ">" would empty every queue."""
    run = jobs_pb2.JOB_KIND_RUN
    assert command_subject(run, "gpu-h100") == "tunix.cmd.train.gpu-h100"
    assert command_subject(jobs_pb2.JOB_KIND_EVALUATION, "") == "tunix.cmd.evaluate"
    assert command_subject(jobs_pb2.JOB_KIND_SWEEP, "") == "tunix.cmd.tune"
    floods = Floods()
    for pool in (">", "*", "", "cpu.>", "a b"):
        assert command_subject(run, pool) == ""
        for _ in range(200):
            floods.note(command_subject(run, pool))
    assert command_subject(jobs_pb2.JOB_KIND_UNSPECIFIED, "cpu") == ""
    assert floods.flooded() == []
