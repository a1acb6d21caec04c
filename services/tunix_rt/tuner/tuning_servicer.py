"""TuningService: validates search spaces, describes this tuner, computes parameter importance. Does not start Ray."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any, Literal

import grpc
from google.protobuf import json_format

from tunix_rt.errors import Violations
from tunix_rt.search_space.defaults import SCHEDULERS
from tunix_rt.search_space.messages import ALGORITHMS, read_space
from tunix_rt.tuner.importance import ScoredTrial, importance
from tunix_rt.v1 import sweeps_pb2, training_pb2, tuning_pb2, tuning_pb2_grpc

SERVICE = tuning_pb2.DESCRIPTOR.services_by_name["TuningService"].full_name
_Context = grpc.aio.ServicerContext[Any, Any]


class TuningServicer(tuning_pb2_grpc.TuningServiceServicer):
    """See tuning.proto."""

    def __init__(self, ray_address: str | None) -> None:
        self._ray_address = ray_address

    async def ValidateSearchSpace(
        self, request: tuning_pb2.ValidateSearchSpaceRequest, context: _Context
    ) -> tuning_pb2.ValidateSearchSpaceResponse:
        violations = Violations()
        space = read_space(request.spec, violations.under("spec"))
        problems = [training_pb2.FieldProblem(field=found.field, description=found.description) for found in violations]
        return tuning_pb2.ValidateSearchSpaceResponse(
            valid=not problems, problems=problems, trial_count=0 if problems else space.trial_count
        )

    async def DescribeTuner(
        self, request: tuning_pb2.DescribeTunerRequest, context: _Context
    ) -> tuning_pb2.DescribeTunerResponse:
        return tuning_pb2.DescribeTunerResponse(
            algorithms=map(sweeps_pb2.SearchAlgorithm.ValueType, ALGORITHMS),
            schedulers=map(sweeps_pb2.TrialScheduler.ValueType, SCHEDULERS),
            ray_version=version("ray"),
            ray_address=self._ray_address or "local",
        )

    async def ComputeImportance(
        self, request: tuning_pb2.ComputeImportanceRequest, context: _Context
    ) -> tuning_pb2.ComputeImportanceResponse:
        violations = Violations()
        space = read_space(request.spec, violations.under("spec"))
        violations.raise_if_any()
        mode: Literal["MAX", "MIN"] = "MIN" if request.spec.objective.mode == sweeps_pb2.OBJECTIVE_MODE_MIN else "MAX"
        trials = [
            ScoredTrial(trial.number, json_format.MessageToDict(trial.parameters), trial.objective)
            for trial in request.trials
            if trial.HasField("objective")
        ]
        found = await asyncio.to_thread(importance, space.parameters, trials, mode)
        return tuning_pb2.ComputeImportanceResponse(
            parameters=[tuning_pb2.ParameterImportance(name=part.name, importance=part.share) for part in found],
            n_trials=len(trials),
        )
