"""``python -m tunix_rt.registry [serve | migrate | tokens …]``: parse, wire, serve; nothing else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import uvloop

from tunix_rt.errors import TunixError
from tunix_rt.observability import tracing
from tunix_rt.observability.logs import configure_logging, get_logger, protect
from tunix_rt.registry.access import tokens as auth
from tunix_rt.registry.app import open_database, serve
from tunix_rt.registry.schema import check_schema, migrate
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.rpc.metrics_server import serve_metrics

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
            case "tokens":
                _tokens(settings, options)
            case _:
                _serve(settings)
    except* TunixError as failures:
        for failure in _leaves(failures):
            _log.error("the registry has stopped", error=str(failure))
        failed = True
    return int(failed)


def _serve(settings: RegistrySettings) -> None:
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


def _tokens(settings: RegistrySettings, options: argparse.Namespace) -> None:
    database = open_database(settings)
    try:
        check_schema(database)
        match options.action:
            case "create":
                print(database.commit(lambda session: auth.create_token(session, options.name, options.role)))
            case "revoke":
                database.commit(lambda session: auth.revoke_token(session, options.name))
            case _:
                with database.read() as session:
                    for row in auth.list_tokens(session):
                        state = "revoked" if row.revoke_time else "valid"
                        print(row.name, ",".join(row.roles), row.create_time.isoformat(), state, sep="\t")
    finally:
        database.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tunix_rt.registry", description="The registry service.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve gRPC (the default)")
    commands.add_parser("migrate", help="bring the database schema up to date")
    actions = commands.add_parser("tokens", help="bearer tokens").add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="print a new token, once")
    create.add_argument("--name", required=True)
    create.add_argument("--role", required=True, action="append", choices=auth.ROLES)
    actions.add_parser("revoke", help="make a token unknown").add_argument("--name", required=True)
    actions.add_parser("list", help="names and roles")
    return parser


def _leaves(group: BaseExceptionGroup[TunixError]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found


if __name__ == "__main__":
    sys.exit(main())
