"""Health says what a server's checks say; a probe for readiness believes it, one for life wants any answer."""

from __future__ import annotations

import asyncio
import sys

from tests.fixtures.grpc_server import serving

from tunix_rt.rpc.health import BUS_HEALTH, ask_health
from tunix_rt.rpc.settings import TlsSettings


async def probe(port: int, *options: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunix_rt.rpc.probe", f"127.0.0.1:{port}", *options, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait()


async def health(port: int, service: str = "") -> str:
    def ask() -> str:
        return ask_health(f"127.0.0.1:{port}", TlsSettings(), timeout_seconds=10, service=service)[0]

    return await asyncio.to_thread(ask)


async def until(port: int, wanted: str, service: str = "") -> None:
    async with asyncio.timeout(20):
        while await health(port, service) != wanted:
            await asyncio.sleep(0.1)


async def test_health_follows_the_checks_of_a_server() -> None:
    problems = {"": "", BUS_HEALTH: ""}
    checks = {"": lambda: problems[""], BUS_HEALTH: lambda: problems[BUS_HEALTH]}
    async with serving(lambda server: [], checks=checks) as port:
        await until(port, "SERVING")
        assert await probe(port) == 0
        problems[BUS_HEALTH] = "it confirms nothing"
        await until(port, "NOT_SERVING", BUS_HEALTH)
        assert (await health(port), await probe(port)) == ("SERVING", 0)
        problems[""] = "no write succeeds"
        await until(port, "NOT_SERVING")
        assert (await probe(port), await probe(port, "--alive")) == (1, 0)
        problems |= {"": "", BUS_HEALTH: ""}
        await until(port, "SERVING")
        await until(port, "SERVING", BUS_HEALTH)
    assert await probe(port, "--alive") == 1
