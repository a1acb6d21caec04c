"""TrainingService over gRPC: validates specs and describes this trainer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from tunix_rt.contract.messages import hyperparameters_of
from tunix_rt.errors import Exhausted, FieldViolation, InvalidInput
from tunix_rt.trainer.software import software_versions
from tunix_rt.trainer.validation import Machine, assess, look_at_machine
from tunix_rt.v1 import training_pb2, training_pb2_grpc

SERVICE = training_pb2.DESCRIPTOR.services_by_name["TrainingService"].full_name
_MAX_WAITING = 100
_Context = grpc.aio.ServicerContext[Any, Any]


class TrainingServicer(training_pb2_grpc.TrainingServiceServicer):
    """Stateless, except for a cache of the machine's devices."""

    def __init__(
        self,
        pool: str,
        cache_dir: Path,
        current_run_id: Callable[[], str],
        *,
        artifacts_uri: str,
        simulated_devices: int = 0,
        processes: int = 1,
    ) -> None:
        self._pool, self._cache_dir, self._current_run_id = pool, cache_dir, current_run_id
        self._artifacts_uri = artifacts_uri
        self._simulated_devices, self._processes = simulated_devices, processes
        self._machine: Machine | None = None
        # A check takes seconds of all cores, and a hundred MiB for each of its processes.
        self._checking = asyncio.Semaphore(1)
        self._waiting = 0

    async def Validate(self, request: training_pb2.ValidateRequest, context: _Context) -> training_pb2.ValidateResponse:
        """Every problem of the spec, each with its field; a spec that is bad is an answer, not an error."""
        if not request.HasField("spec"):
            raise InvalidInput([FieldViolation("spec", "is required")])
        async with self._turn():
            found = await assess(
                request.spec.base_model,
                hyperparameters_of(request.spec.hyperparameters),
                pool=request.spec.pool,
                own_pool=self._pool,
                cache_dir=self._cache_dir,
                artifacts_uri=self._artifacts_uri,
                simulated_devices=self._simulated_devices,
                processes=self._processes,
            )
        self._machine = found.machine
        return training_pb2.ValidateResponse(
            runnable=not found.problems,
            problems=[training_pb2.FieldProblem(field=p.field, description=p.description) for p in found.problems],
            warnings=[training_pb2.FieldProblem(field=w.field, description=w.description) for w in found.warnings],
            model_family=found.model.family if found.model else "",
            parameter_count=found.model.parameter_count if found.model else 0,
            estimated_memory_bytes=found.estimated_bytes,
            available_memory_bytes=found.available_bytes,
            devices=len(found.machine.devices),
        )

    async def Describe(self, request: training_pb2.DescribeRequest, context: _Context) -> training_pb2.DescribeResponse:
        """Devices, supported models, versions, and what it is working on."""
        if self._machine is None:
            async with self._turn():
                self._machine = self._machine or await look_at_machine(self._simulated_devices)
        return training_pb2.DescribeResponse(
            pool=self._pool,
            platform=self._machine.platform,
            devices=self._machine.devices,
            model_families=self._machine.families,
            presets=self._machine.presets,
            versions=software_versions(),
            current_run_id=self._current_run_id(),
        )

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One check at a time. Raises `Exhausted` when too many wait."""
        if self._waiting >= _MAX_WAITING:
            raise Exhausted(f"{self._waiting} checks are waiting already", retry_after_seconds=10.0)
        self._waiting += 1
        try:
            async with self._checking:
                yield
        finally:
            self._waiting -= 1
