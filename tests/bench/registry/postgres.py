"""A PostgreSQL cluster that is the benchmark's own: real durability, buffers as a small server would have."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

SETTINGS = {
    "shared_buffers": "2GB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "max_connections": "200",
    # What is filled is analysed once; nothing else runs beside what is measured.
    "autovacuum": "off",
}


def binaries() -> Path | None:
    """Where ``initdb`` and ``pg_ctl`` are; None where PostgreSQL is not installed."""
    on_path = shutil.which("pg_ctl")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((each for each in candidates if (each / "initdb").exists() and (each / "pg_ctl").exists()), None)


class Cluster:
    """A running server; databases are made by name and go with it."""

    def __init__(self, port: int) -> None:
        self._authority = f"postgres@127.0.0.1:{port}"

    def url(self, name: str) -> str:
        """URL (without a driver) of a database."""
        return f"postgresql://{self._authority}/{name}"

    def create(self, name: str) -> None:
        """A new, empty database that sorts text by code point."""
        with psycopg.connect(f"postgresql://{self._authority}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0")  # type: ignore[call-overload]


@contextmanager
def cluster(home: Path) -> Iterator[Cluster]:
    """A server whose data are in ``home``; it stops with the block, and goes on with the same data another time."""
    found = binaries()
    if found is None:
        raise SystemExit("PostgreSQL is not installed here: pass --databases sqlite")
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    home.mkdir(exist_ok=True)
    if user:
        shutil.chown(home, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        command = [str(found / program), "-D", str(home / "data"), *arguments]
        subprocess.run(command, check=True, cwd=home, user=user, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= "
    options += " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    if not (home / "data").exists():
        run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8")
    run("pg_ctl", "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        yield Cluster(port)
    finally:
        run("pg_ctl", "-m", "fast", "-w", "stop")
