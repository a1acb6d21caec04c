"""``python -m tunix_rt.registry [serve | migrate]``: parse, wire, serve; nothing else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

import uvloop

from tunix_rt.errors import TunixError
from tunix_rt.observability import tracing
from tunix_rt.observability.logs import configure_logging, get_logger, protect
from tunix_rt.registry.app import open_database, serve
from tunix_rt.registry.schema import migrate
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.rpc.metrics_server import serve_metrics

# How long a thread computes until another may: with Python's 5 ms the event loop, which lets calls in, waits for every
# busy thread of the database after each of its own short steps.
_SWITCH_SECONDS: Final = 0.0001
_log = get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    settings = RegistrySettings()
    configure_logging("registry", settings.log_level)
    protect(*settings.secrets())
    failed = False
    try:
        match options.command:
            case "migrate":
                _migrate(settings)
            case _:
                _serve(settings)
    except* TunixError as failures:
        for failure in _leaves(failures):
            _log.error("the registry has stopped", error=str(failure))
        failed = True
    return int(failed)


def _serve(settings: RegistrySettings) -> None:
    sys.setswitchinterval(_SWITCH_SECONDS)
    tracing.configure_tracing("registry", settings.otlp_endpoint)
    stop_metrics = serve_metrics(settings)
    try:
        uvloop.run(serve(settings))
    finally:
        stop_metrics()


def _migrate(settings: RegistrySettings) -> None:
    database = open_database(settings)
    try:
        migrate(database)
    finally:
        database.close()
    _log.info("the schema is up to date")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tunix_rt.registry", description="The registry service.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve gRPC (the default)")
    commands.add_parser("migrate", help="bring the database schema up to date")
    return parser


def _leaves(group: BaseExceptionGroup[TunixError]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found


if __name__ == "__main__":
    sys.exit(main())
