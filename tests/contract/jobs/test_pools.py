"""Jobs that wait for nobody: who is told, and when it is over. What JetStream knows is said by the test."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.contract.jobs.kinds import KINDS, Kind
from tests.contract.jobs.project_calls import Caller, Instance

from tunix_rt.registry.kernel.pools import PoolRow, PoolWatch
from tunix_rt.v1 import access_pb2, evaluations_pb2, jobs_pb2, runs_pb2, sweeps_pb2

TIMEOUT = 20
BY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


class Watch:
    """Looks on a clock that the test turns."""

    def __init__(self, registry: Any) -> None:
        self.registry, self.now = registry, 0.0
        self._watch = PoolWatch(60.0, lambda: self.now)

    async def look(self, *served: str, waiting: tuple[str, ...] = (), after: float = 10.0) -> None:
        self.now += after
        look = self._watch.look
        await self.registry.database.run_write(lambda session: look(session, served, waiting))
        await self.registry.database.run_read(self.registry.dependencies.unserved.refresh)

    async def unserved(self, subject: str) -> None:
        """Nobody serves it for a minute in which jobs wait."""
        for _ in range(8):
            await self.look(waiting=(subject,))


@pytest.fixture
def watch(registry: Any) -> Watch:
    return Watch(registry)


async def events(registry: Any) -> list[str]:
    return [subject for subject in await registry.subjects("fact") if subject.startswith("tunix.evt.pool.")]


async def pools(registry: Any) -> dict[tuple[int, str], jobs_pb2.Pool]:
    found = await registry.jobs.ListPools(jobs_pb2.ListPoolsRequest(), timeout=TIMEOUT)
    return {(pool.kind, pool.name): pool for pool in found.pools}


async def test_a_pool_in_which_jobs_wait_for_a_minute_is_said_once(registry: Any, watch: Watch) -> None:
    gpu = "tunix.cmd.train.gpu"
    await watch.look(gpu, waiting=(gpu,), after=0)
    for _ in range(6):
        await watch.look("tunix.cmd.evaluate", waiting=(gpu,))
    assert await events(registry) == []
    for _ in range(6):
        await watch.look("tunix.cmd.evaluate", waiting=(gpu,))
    assert await events(registry) == ["tunix.evt.pool.unserved.gpu"]
    found = await pools(registry)
    said = found[jobs_pb2.JOB_KIND_RUN, "gpu"]
    assert said.HasField("unserved_since")
    served = said.served_time.ToDatetime()
    assert said.warning == f"no worker has served pool 'gpu' since {served:%Y-%m-%d %H:%M} UTC"
    assert found[jobs_pb2.JOB_KIND_EVALUATION, ""].warning == ""
    # Another process that looks goes on from the table.
    again = Watch(registry)
    await again.unserved(gpu)
    assert await events(registry) == ["tunix.evt.pool.unserved.gpu"]
    await again.look(gpu, waiting=(gpu,))
    assert await events(registry) == ["tunix.evt.pool.unserved.gpu", "tunix.evt.pool.served.gpu"]
    (event,) = [row for row in await registry.outbox() if row.subject == "tunix.evt.pool.unserved.gpu"]
    assert event.project == "*"


async def test_a_look_at_which_somebody_serves_begins_the_minute_anew(registry: Any, watch: Watch) -> None:
    gpu = "tunix.cmd.train.gpu"
    for _ in range(4):
        await watch.look(waiting=(gpu,), after=30)
        await watch.look(waiting=(gpu,), after=29)
        await watch.look(gpu)
    for _ in range(4):
        await watch.look(waiting=(gpu,), after=30)
        await watch.look(after=100)
    assert await events(registry) == []


async def shown(registry: Any, job_id: str) -> set[str]:
    """The warnings of the job: by itself, in a list, and to who watches it."""
    stub, name = {
        "run": (registry.runs, "Run"),
        "eval": (registry.evaluations, "Evaluation"),
        "sweep": (registry.sweeps, "Sweep"),
    }[job_id.partition("-")[0]]
    module: Any = {"Run": runs_pb2, "Evaluation": evaluations_pb2, "Sweep": sweeps_pb2}[name]
    got = await getattr(stub, f"Get{name}")(getattr(module, f"Get{name}Request")(id=job_id), timeout=TIMEOUT)
    listed = await getattr(stub, f"List{name}s")(getattr(module, f"List{name}sRequest")(), timeout=TIMEOUT)
    (in_list,) = [each for each in getattr(listed, f"{name.lower()}s") if each.id == job_id]
    stream = getattr(stub, f"Watch{name}")(getattr(module, f"Watch{name}Request")(id=job_id), timeout=TIMEOUT)
    watched = getattr(await stream.read(), name.lower())
    stream.cancel()
    return {got.warning, in_list.warning, watched.warning}


@BY_KIND
async def test_a_job_in_an_unserved_pool_carries_a_warning_until_a_worker_claims_one(
    registry: Any, watch: Watch, kind: Kind
) -> None:
    job_id = await kind.create(registry)
    assert await shown(registry, job_id) == {""}
    await watch.unserved(kind.command)
    what = {"run": "pool 'cpu'", "evaluation": "evaluations", "sweep": "sweeps"}[kind.name]
    assert await shown(registry, job_id) == {f"no worker has served {what} yet"}
    other = await kind.create(registry)
    assert (await registry.claim(other)).granted
    assert await shown(registry, job_id) == {""}
    name = {"run": "cpu", "evaluation": "evaluate", "sweep": "tune"}[kind.name]
    assert await events(registry) == [f"tunix.evt.pool.{what}.{name}" for what in ("unserved", "served")]
    # The claim is in the table, too: nothing is said again.
    await watch.look(waiting=(kind.command,))
    assert (await pools(registry))[kind.number, "cpu" if kind.name == "run" else ""].warning == ""


async def test_a_new_run_is_warned_of_at_once_and_one_that_has_ended_is_not(registry: Any, watch: Watch) -> None:
    await watch.unserved("tunix.cmd.train.gpu")
    assert (await registry.create_run(pool="gpu")).warning == "no worker has served pool 'gpu' yet"
    assert (await registry.create_run(pool="cpu")).warning == ""
    run = await registry.create_run(pool="gpu")
    await registry.cancel(run.id)
    assert (await registry.get_run(run.id)).warning == ""


async def test_a_lease_counts_as_service_and_a_paused_sweep_waits_for_nobody(registry: Any, watch: Watch) -> None:
    _, lease = await registry.running(pool="gpu")
    await watch.unserved("tunix.cmd.train.gpu")
    assert await events(registry) == []
    await registry.release(lease)
    await watch.unserved("tunix.cmd.train.gpu")
    assert await events(registry) == ["tunix.evt.pool.unserved.gpu"]
    sweep = await registry.create_sweep()
    await watch.unserved("tunix.cmd.tune")
    assert (await registry.get_sweep(sweep.id)).warning == "no worker has served sweeps yet"
    request = sweeps_pb2.PauseSweepRequest(request_id=registry.request_id(), id=sweep.id)
    await registry.sweeps.PauseSweep(request, timeout=TIMEOUT)
    assert (await registry.get_sweep(sweep.id)).warning == ""


async def test_every_project_hears_of_a_pool(registry: Any, watch: Watch) -> None:
    instance = Instance(registry)
    team: Caller = await instance.member("ann", "vision", access_pb2.ROLE_EDITOR)
    await watch.unserved("tunix.cmd.train.gpu")
    (event,) = (await team.call("EventService/ListEvents")).events
    assert (event.subject, event.project) == ("tunix.evt.pool.unserved.gpu", "*")
    assert event.data["pool"]["name"] == "gpu"
    (pool,) = (await team.call("JobService/ListPools", page_size=1)).pools
    assert pool.name == "gpu"


async def test_where_nobody_waits_any_more_nothing_is_said(registry: Any, watch: Watch) -> None:
    gpu = "tunix.cmd.train.gpu"
    await watch.unserved(gpu)
    await watch.look()
    assert [pool.warning for pool in (await pools(registry)).values()] == [""]
    assert (await registry.create_run(pool="gpu")).warning == ""
    await watch.unserved(gpu)
    assert await events(registry) == ["tunix.evt.pool.unserved.gpu"] * 2


async def test_pools_are_listed_in_pages(registry: Any, watch: Watch) -> None:
    await watch.look("tunix.cmd.train.gpu", "tunix.cmd.evaluate", "tunix.cmd.tune", "tunix.cmd.train.cpu")
    request, seen = jobs_pb2.ListPoolsRequest(page_size=3), []
    while not seen or request.page_token:
        page = await registry.jobs.ListPools(request, timeout=TIMEOUT)
        seen += [(jobs_pb2.JobKind.Name(pool.kind).removeprefix("JOB_KIND_"), pool.name) for pool in page.pools]
        request.page_token = page.next_page_token
    assert seen == [("EVALUATION", ""), ("RUN", "cpu"), ("RUN", "gpu"), ("SWEEP", "")]


async def test_two_claims_at_once_tell_of_one_worker(registry: Any, watch: Watch) -> None:
    runs = [await registry.create_run() for _ in range(4)]
    await watch.unserved("tunix.cmd.train.cpu")
    claims = await asyncio.gather(*(registry.claim(run.id) for run in runs))
    assert all(claim.granted for claim in claims)
    assert (await events(registry)).count("tunix.evt.pool.served.cpu") == 1
    assert await registry.count(PoolRow) == 1
