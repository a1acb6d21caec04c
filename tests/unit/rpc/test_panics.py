"""What is no `Exception` is answered, too; a cancellation stays one."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from tests.fixtures.grpc_server import serving

from tunix_rt.rpc.channel import open_channel
from tunix_rt.v1 import training_pb2, training_pb2_grpc


class PanicException(BaseException):
    """As pyo3's."""


class Panicking(training_pb2_grpc.TrainingServiceServicer):
    async def Describe(self, request: training_pb2.DescribeRequest, context: Any) -> training_pb2.DescribeResponse:
        raise PanicException("a secret of the service")


async def test_a_panic_of_native_code_is_answered() -> None:
    def register(server: grpc.aio.Server) -> tuple[str, ...]:
        training_pb2_grpc.add_TrainingServiceServicer_to_server(Panicking(), server)
        return ()

    async with serving(register) as port, open_channel(f"127.0.0.1:{port}", token=None) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await training_pb2_grpc.TrainingServiceStub(channel).Describe(training_pb2.DescribeRequest(), timeout=20)
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(failed.value.details())
