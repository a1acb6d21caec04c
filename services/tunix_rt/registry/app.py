"""Composition root of the registry: database, artifact store, servicers, relay, reaper; and their lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import grpc

from tunix_rt.artifacts import ArtifactRoot, ArtifactStore
from tunix_rt.artifacts.inventory import inventory_of
from tunix_rt.bus.connection import connect
from tunix_rt.bus.consume import consume
from tunix_rt.bus.dead_letter_stream import DeadLetterStream
from tunix_rt.bus.dead_letters import dead_lettering_stuck_commands
from tunix_rt.bus.keeper import Topology
from tunix_rt.bus.publish import Publisher
from tunix_rt.bus.topology import DEAD_COMMANDS
from tunix_rt.observability.logs import get_logger
from tunix_rt.quality.rescoring import Rescorer
from tunix_rt.quality.scorer_plugins import installed_scorers
from tunix_rt.registry.access import service as access
from tunix_rt.registry.access.audit import AuditLog, audit_guard
from tunix_rt.registry.access.authorizer import TokenAuthorizer
from tunix_rt.registry.access.settings_tokens import (
    Given,
    follow_settings_tokens,
    read_settings_tokens,
    store_settings_tokens,
)
from tunix_rt.registry.access.sign_in import sign_in_of
from tunix_rt.registry.datasets import service as datasets
from tunix_rt.registry.dead_letters import service as dead_letters
from tunix_rt.registry.dead_letters.link import BusLink
from tunix_rt.registry.evalsets import service as evalsets
from tunix_rt.registry.evaluations import service as evaluations
from tunix_rt.registry.evaluations.verification import ProcessVerifier, Verifier
from tunix_rt.registry.events import service as events
from tunix_rt.registry.jobs import service as jobs
from tunix_rt.registry.jobs.reaper import DeadCommands, extend_leases, run_reaper
from tunix_rt.registry.kernel.calls import Dependencies
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.lease_clock import begin_with_the_databases_time
from tunix_rt.registry.kernel.pools import PoolWatch, follow_pools
from tunix_rt.registry.kernel.relay import Relay
from tunix_rt.registry.kernel.signing import SIGNER, open_signer, publish_key
from tunix_rt.registry.kernel.vitals import Vitals
from tunix_rt.registry.models import service as models
from tunix_rt.registry.models.loaded_digests import InferencerDigests, LoadedDigests
from tunix_rt.registry.resources import RESOURCES
from tunix_rt.registry.retention import service as retention
from tunix_rt.registry.retention.loop import Retention, limits_of
from tunix_rt.registry.runs import service as runs
from tunix_rt.registry.schema import check_schema, migrate
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.registry.sweeps import service as sweeps
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.health import BUS_HEALTH
from tunix_rt.rpc.server import serve_grpc
from tunix_rt.v1 import (
    access_pb2_grpc,
    datasets_pb2_grpc,
    dead_letters_pb2_grpc,
    evalsets_pb2_grpc,
    evaluations_pb2_grpc,
    events_pb2_grpc,
    jobs_pb2_grpc,
    models_pb2_grpc,
    retention_pb2_grpc,
    runs_pb2_grpc,
    sweeps_pb2_grpc,
)

_BUS_RETRY_SECONDS: Final = 2.0
_log = get_logger(__name__)


def register_servicers(
    server: grpc.aio.Server,
    dependencies: Dependencies,
    authorizer: TokenAuthorizer,
    verifier: Verifier,
    digests: LoadedDigests | None = None,
    bus: BusLink | None = None,
) -> Sequence[str]:
    """Add every service of the registry to ``server``; their full names.

    ``digests`` None: evaluations of models by reference are not verified. ``bus`` None: NATS is never there.
    """
    letters = dead_letters.DeadLetterServicer(dependencies, bus or BusLink())
    dead_letters_pb2_grpc.add_DeadLetterServiceServicer_to_server(letters, server)
    access_pb2_grpc.add_AccessServiceServicer_to_server(access.AccessServicer(dependencies, authorizer), server)
    jobs_pb2_grpc.add_JobServiceServicer_to_server(jobs.JobServicer(dependencies, digests), server)
    runs_pb2_grpc.add_RunServiceServicer_to_server(runs.RunServicer(dependencies), server)
    sweeps_pb2_grpc.add_SweepServiceServicer_to_server(sweeps.SweepServicer(dependencies), server)
    events_pb2_grpc.add_EventServiceServicer_to_server(events.EventServicer(dependencies), server)
    datasets_pb2_grpc.add_DatasetServiceServicer_to_server(datasets.DatasetServicer(dependencies), server)
    evalsets_pb2_grpc.add_EvalSetServiceServicer_to_server(evalsets.EvalSetServicer(dependencies), server)
    evaluations_pb2_grpc.add_EvaluationServiceServicer_to_server(
        evaluations.EvaluationServicer(dependencies, verifier), server
    )
    models_pb2_grpc.add_ModelServiceServicer_to_server(models.ModelServicer(dependencies), server)
    retention_pb2_grpc.add_RetentionServiceServicer_to_server(retention.RetentionServicer(dependencies), server)
    return (
        access.SERVICE,
        jobs.SERVICE,
        runs.SERVICE,
        sweeps.SERVICE,
        events.SERVICE,
        datasets.SERVICE,
        evalsets.SERVICE,
        evaluations.SERVICE,
        models.SERVICE,
        dead_letters.SERVICE,
        retention.SERVICE,
    )


def open_database(settings: RegistrySettings) -> Database:
    """The database of the settings, its directory made if it is a file. Raises `FailedPrecondition` for no database."""
    if not settings.database_url:
        settings.home.mkdir(parents=True, exist_ok=True)
    artifacts = ArtifactRoot(settings.artifact_root)
    database = Database(settings.database, RESOURCES, artifacts=artifacts, threads=settings.database_threads)
    database.check_file()
    return database


def use_signing_key(database: Database, settings: RegistrySettings) -> None:
    """Sign what is decided from now on. Raises `FailedPrecondition` for a key that cannot be used."""
    signer = open_signer(settings.signing_key_path)
    database.share(SIGNER, signer)
    database.commit(lambda session: publish_key(session, signer))
    _log.info("decisions and scores are signed", key=signer.public_key)


async def serve(
    settings: RegistrySettings, *, stop: asyncio.Event | None = None, on_bound: Callable[[int], None] | None = None
) -> None:
    """Run the registry until ``stop`` is set or a signal comes.

    RPCs are answered whether or not NATS can be reached; facts and commands wait in the outbox meanwhile. Raises
    `FailedPrecondition` when the schema is unknown, the address is taken or an installed scorer cannot be used.
    """
    stop = stop or asyncio.Event()
    installed_scorers()
    database = open_database(settings)
    rescorer = Rescorer(settings.scoring_processes)
    try:
        if settings.auto_migrate:
            migrate(database)
        check_schema(database)
        use_signing_key(database, settings)
        database.commit(begin_with_the_databases_time)
        database.commit(lambda session: extend_leases(session, settings.lease_ttl))
        tokens = read_settings_tokens(settings.token_text, settings.service_tokens_dir)
        database.commit(lambda session: store_settings_tokens(session, tokens))
        audit, authorizer = AuditLog(), TokenAuthorizer(database, sign_in_of(settings, database))
        dependencies = Dependencies(database, ArtifactStore(settings.artifact_root), settings, audit.record)
        verifier = ProcessVerifier(rescorer)
        vitals, bus = Vitals(), BusLink()
        async with (
            _background(dependencies, audit, authorizer, tokens, vitals, bus, stop),
            _loaded_digests(settings) as digests,
        ):
            await serve_grpc(
                lambda server: register_servicers(server, dependencies, authorizer, verifier, digests, bus),
                settings,
                authorizer=authorizer if settings.auth == "on" else None,
                audit=audit_guard(audit),
                crowded=database.crowded,
                checks={"": vitals.database_problem, BUS_HEALTH: vitals.bus_problem},
                ready=None,
                stop=stop,
                on_bound=on_bound,
            )
    finally:
        rescorer.close()
        database.close()


@asynccontextmanager
async def _loaded_digests(settings: RegistrySettings) -> AsyncIterator[LoadedDigests | None]:
    """The inferencer, if the settings name one."""
    if not settings.inferencer_address:
        yield None
        return
    async with open_channel(settings.inferencer_address, token=settings.token_source, tls=settings.tls) as channel:
        yield InferencerDigests(channel)


@asynccontextmanager
async def _background(
    dependencies: Dependencies,
    audit: AuditLog,
    authorizer: TokenAuthorizer,
    tokens: Mapping[str, Given],
    vitals: Vitals,
    bus: BusLink,
    stop: asyncio.Event,
) -> AsyncIterator[None]:
    """The reaper, the bus, the retention loop and the audit log beside the server; if one of them fails, the server
    stops and the error is raised."""
    database, settings = dependencies.database, dependencies.settings

    async def to_the_end(work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            stop.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(to_the_end(run_reaper(database, settings.reap_seconds, settings.lease_ttl, vitals, stop)))
        group.create_task(to_the_end(run_bus(dependencies, vitals, bus, stop)))
        group.create_task(to_the_end(follow_pools(database, dependencies.unserved, stop)))
        group.create_task(to_the_end(_retention(dependencies).run(stop)))
        group.create_task(to_the_end(audit.run(database, stop)))
        group.create_task(to_the_end(authorizer.run(stop)))
        if settings.service_tokens_dir is not None:
            group.create_task(to_the_end(follow_settings_tokens(database, settings, tokens, stop, authorizer.forget)))
        try:
            yield
        finally:
            stop.set()


def _retention(dependencies: Dependencies) -> Retention:
    settings = dependencies.settings
    inventory = inventory_of(dependencies.artifacts)
    return Retention(dependencies.database, inventory, limits_of(settings), rest_seconds=settings.retention_seconds)


async def run_bus(dependencies: Dependencies, vitals: Vitals, bus: BusLink, stop: asyncio.Event) -> None:
    """Publish the outbox and fail the jobs of dead-lettered commands, until ``stop`` is set.

    An error, such as a drifted stream, is logged and retried: RPCs do not depend on NATS.
    """
    while not stop.is_set():
        try:
            await _serve_bus(dependencies, vitals, bus, stop)
        except Exception as error:
            vitals.not_published(f"{type(error).__name__}: {error}")
            _log.exception("the bus has failed; RPCs go on, facts and commands wait in the outbox")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _BUS_RETRY_SECONDS)


async def _serve_bus(dependencies: Dependencies, vitals: Vitals, bus: BusLink, stop: asyncio.Event) -> None:
    database, settings = dependencies.database, dependencies.settings
    vitals.not_published("not connected")
    connecting = asyncio.ensure_future(connect(settings, name="registry"))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((connecting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not connecting.done():
        connecting.cancel()
        return
    client = connecting.result()
    try:
        js = client.jetstream()
        topology = Topology(js, settings.stream_limits)
        publisher = Publisher(js, topology=topology)
        pools = PoolWatch(settings.unserved_seconds)
        relay = Relay(
            database, publisher, pools=pools, streams=topology, flooded=dependencies.floods.flooded, vitals=vitals
        )
        linked = bus.connected(DeadLetterStream(js, publisher))
        async with dead_lettering_stuck_commands(js), asyncio.TaskGroup() as group:
            group.create_task(relay.run(stop))
            group.create_task(consume(js, DEAD_COMMANDS, DeadCommands(database).handle, workers=1, stop=stop))
            with linked:
                await stop.wait()
    finally:
        await client.close()
