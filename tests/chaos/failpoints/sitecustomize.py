"""Named points at which a worker is killed, once: this directory is on the PYTHONPATH of the process that is to die.

CHAOS_FAILPOINT is the name of a point, CHAOS_DIED a file that is made when it is reached: with it there, nobody dies.
"""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Method = Callable[..., Awaitable[Any]]


def _die() -> None:
    died = Path(os.environ["CHAOS_DIED"])
    try:
        died.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _before(method: Method) -> Method:
    async def dying(*arguments: Any, **named: Any) -> Any:
        _die()
        return await method(*arguments, **named)

    return dying


def _after(method: Method) -> Method:
    async def dying(*arguments: Any, **named: Any) -> Any:
        answer = await method(*arguments, **named)
        _die()
        return answer

    return dying


def _arm(name: str) -> None:
    from nats.aio.msg import Msg

    from tunix_rt.worker.grpc_jobs import GrpcJobs

    holder: Any
    holder, attribute, wrap = {
        # The lease is granted, and nothing is done yet.
        "after the claim": (GrpcJobs, "claim", _after),
        # Everything is done, and the registry does not know it.
        "before the commit": (GrpcJobs, "complete", _before),
        # The registry knows it, and the command is still in the queue.
        "after the commit": (GrpcJobs, "complete", _after),
        # The command is gone, and the worker has not taken the next one.
        "after the ack": (Msg, "ack_sync", _after),
    }[name]
    setattr(holder, attribute, wrap(getattr(holder, attribute)))


if os.environ.get("CHAOS_FAILPOINT"):
    _arm(os.environ["CHAOS_FAILPOINT"])
