"""Writes nats-server's configuration: JetStream, TLS, and one user per service with the permissions of `users`.

``python -m tunix_rt.bus.server_config DIRECTORY`` makes the keys and the file that containers mount: a folder for each
user with its secret, and ``nats/nats-server.conf``. Keys that exist stay; delete one and run it again to replace it.
With ``--node`` for each server of a cluster, all of them mount the same file; each finds its own name in POD_NAME.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunix_rt.bus.keys import PASSWORD_FILE, SEED_FILE, public_key, read_or_create_seed
from tunix_rt.bus.users import READER, BusUser, bus_users, inbox_prefix
from tunix_rt.contract.identifiers import DEFAULT_POOL
from tunix_rt.rpc.secret_files import read_or_create_secret

CONFIG_FILE = "nats-server.conf"
CLUSTER_PASSWORD_FILE = "cluster.password"
CLUSTER_PORT = 6222
MAX_PAYLOAD_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ServerTls:
    """PEM files as nats-server sees them. Clients have to present a certificate of the CA."""

    certificate: str
    key: str
    ca: str


@dataclass(frozen=True)
class ServerCluster:
    """Where a server listens for the others (``host:port``), where all of them are, and their common password."""

    listen: str
    nodes: tuple[str, ...]
    password: str


@dataclass(frozen=True)
class ServerPlace:
    """Where nats-server listens (``host:port``) and keeps its streams. Its monitor answers on loopback only.

    A ``name`` that begins with ``$`` is the value of that variable in the server's environment.
    """

    listen: str
    store: str
    monitor: str = ""
    name: str = "tunix-rt"
    tls: ServerTls | None = None
    cluster: ServerCluster | None = None


@dataclass(frozen=True)
class Credential:
    """What proves a user: its public key, or a password where ``key`` is empty."""

    key: str = ""
    password: str = ""


def make_credentials(directory: Path, users: Iterable[BusUser]) -> dict[str, Credential]:
    """The credential of each user, by name; made on first use, mode 0600.

    ``DIRECTORY/<user>/nats.seed`` holds a key's secret half. The reader, whose tools may not be able to sign, has
    ``DIRECTORY/reader/nats.password`` instead.
    """
    found: dict[str, Credential] = {}
    for user in users:
        folder = directory / user.name
        if user.name != READER:
            found[user.name] = Credential(key=public_key(read_or_create_seed(folder / SEED_FILE)))
        else:
            found[user.name] = Credential(password=read_or_create_secret(folder / PASSWORD_FILE))
    return found


def configuration(place: ServerPlace, users: Iterable[BusUser], credentials: Mapping[str, Credential]) -> str:
    """The text of nats-server.conf.

    JetStream syncs every write before it confirms it: neither a killed server nor a power cut loses what was confirmed.
    """
    lines = [
        f"server_name: {place.name if place.name.startswith('$') else json.dumps(place.name)}",
        f"listen: {json.dumps(place.listen)}",
        f"max_payload: {MAX_PAYLOAD_BYTES}",
        # What is acknowledged is on the disk. The streams have limits of their own: without one here, nats-server takes
        # three quarters of the room that there is, and refuses streams that may once become larger.
        f"jetstream {{ store_dir: {json.dumps(place.store)}, sync_interval: always, max_file_store: 1TB }}",
    ]
    if place.monitor:
        lines.append(f"http: {json.dumps(place.monitor)}")
    if place.tls is not None:
        lines.append(_tls(place.tls))
    if place.cluster is not None:
        lines += _cluster(place.cluster, place.tls)
    lines.append("authorization {\n  users: [")
    lines += [f"    {_user(user, credentials[user.name])}" for user in users]
    lines.append("  ]\n}\n")
    return "\n".join(lines)


def _tls(tls: ServerTls) -> str:
    files = {"cert_file": tls.certificate, "key_file": tls.key, "ca_file": tls.ca}
    texts = ", ".join(f"{name}: {json.dumps(path)}" for name, path in files.items())
    return f"tls {{ {texts}, verify: true, timeout: 5 }}"


def _cluster(cluster: ServerCluster, tls: ServerTls | None) -> list[str]:
    """Servers know each other by a password, and by certificates where there are any. Clients learn of all of them by
    their own list, not by addresses that may mean nothing outside."""
    user = f'user: "route", password: {json.dumps(cluster.password)}'
    return [
        "cluster {",
        '  name: "tunix-rt"',
        f"  listen: {json.dumps(cluster.listen)}",
        "  no_advertise: true",
        f"  authorization {{ {user}, timeout: 5 }}",
        f"  routes: {json.dumps([f'nats-route://route:{cluster.password}@{node}' for node in cluster.nodes])}",
        *([f"  {_tls(tls)}"] if tls else []),
        "}",
    ]


def write_private(path: Path, text: str) -> None:
    """Replace ``path``, mode 0600, in one step."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def _user(user: BusUser, credential: Credential) -> str:
    who = f"user: {json.dumps(user.name)}, password: {json.dumps(credential.password)}"
    if credential.key:
        who = f"nkey: {credential.key}"
    identity = credential.key or user.name
    publish = json.dumps(user.publish)
    subscribe = json.dumps((f"{inbox_prefix(identity)}.>", *user.subscribe))
    return f"{{ {who}, permissions: {{ publish: {{ allow: {publish} }}, subscribe: {{ allow: {subscribe} }} }} }}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tunix_rt.bus.server_config", description=__doc__)
    parser.add_argument("directory", type=Path, help="where the folders of secrets are")
    parser.add_argument("--pool", action="append", help=f"pool of trainers; repeatable; default: {DEFAULT_POOL}")
    parser.add_argument("--listen", default="0.0.0.0:4222")
    parser.add_argument("--store", default="/data", help="where nats-server keeps its streams")
    parser.add_argument(
        "--tls-directory",
        default="/run/secrets/tunix-rt",
        help="where nats-server finds cert.pem, key.pem and ca.pem; empty: plain text, for one machine only",
    )
    parser.add_argument(
        "--node",
        action="append",
        help=f"host of a server of a cluster, such as nats-0.nats (port {CLUSTER_PORT}); repeat it for each, 3 or 5",
    )
    given = parser.parse_args(arguments)
    users = bus_users(given.pool or [DEFAULT_POOL])
    folder = given.tls_directory.rstrip("/")
    tls = ServerTls(*(f"{folder}/{name}" for name in ("cert.pem", "key.pem", "ca.pem"))) if folder else None
    folder_of_nats = given.directory / "nats"
    place = ServerPlace(given.listen, given.store, monitor="127.0.0.1:8222", tls=tls)
    if given.node:
        password = read_or_create_secret(folder_of_nats / CLUSTER_PASSWORD_FILE)
        nodes = tuple(f"{host}:{CLUSTER_PORT}" for host in given.node)
        place = replace(place, name="$POD_NAME", cluster=ServerCluster(f"0.0.0.0:{CLUSTER_PORT}", nodes, password))
    path = folder_of_nats / CONFIG_FILE
    write_private(path, configuration(place, users, make_credentials(given.directory, users)))
    print(f"{path}: {', '.join(user.name for user in users)}")


if __name__ == "__main__":
    main()
