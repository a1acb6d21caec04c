from __future__ import annotations

from typing import Any

from google.protobuf import struct_pb2

from tunix_rt.tuner.tuning_servicer import TuningServicer
from tunix_rt.v1 import sweeps_pb2 as pb
from tunix_rt.v1 import tuning_pb2


def values(*given: Any) -> pb.Choice:
    listed = struct_pb2.ListValue()
    listed.extend(given)
    return pb.Choice(values=listed.values)


async def test_the_service_names_all_problems_at_once_or_counts_the_trials() -> None:
    servicer = TuningServicer(None)
    bad = pb.SweepSpec(
        parameters=[
            pb.Parameter(name="nonsense", uniform=pb.Uniform(low=2, high=1)),
            pb.Parameter(name="weight_decay"),
        ],
        seed=-4,
    )
    answer = await servicer.ValidateSearchSpace(tuning_pb2.ValidateSearchSpaceRequest(spec=bad), None)  # type: ignore[arg-type]
    assert not answer.valid
    assert {problem.field for problem in answer.problems} == {
        "spec.seed",
        "spec.parameters[0].name",
        "spec.parameters[0].uniform.low",
        "spec.parameters[1].domain",
    }
    good = pb.SweepSpec(
        parameters=[pb.Parameter(name="max_steps", grid=values(1, 2, 3))],
        algorithm=pb.SEARCH_ALGORITHM_GRID,
        num_samples=2,
    )
    answer = await servicer.ValidateSearchSpace(tuning_pb2.ValidateSearchSpaceRequest(spec=good), None)  # type: ignore[arg-type]
    assert (answer.valid, answer.trial_count) == (True, 6)


async def test_the_tuner_says_what_it_can_do() -> None:
    answer = await TuningServicer(None).DescribeTuner(tuning_pb2.DescribeTunerRequest(), None)  # type: ignore[arg-type]
    assert list(answer.algorithms) == [pb.SEARCH_ALGORITHM_RANDOM, pb.SEARCH_ALGORITHM_GRID, pb.SEARCH_ALGORITHM_TPE]
    assert list(answer.schedulers) == [
        pb.TRIAL_SCHEDULER_FIFO,
        pb.TRIAL_SCHEDULER_ASHA,
        pb.TRIAL_SCHEDULER_MEDIAN_STOPPING,
        pb.TRIAL_SCHEDULER_PBT,
    ]
    assert answer.ray_version.startswith("2.")
    assert answer.ray_address == "local"
