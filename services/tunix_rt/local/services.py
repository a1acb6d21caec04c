"""The five services as processes: which there are, how each is started, and with which environment."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from tunix_rt.bus.users import trainer_name
from tunix_rt.errors import Violations
from tunix_rt.local.home import Home
from tunix_rt.local.ports import LOOPBACK
from tunix_rt.rpc.secret_files import read_or_create_secret

REGISTRY = "registry"
INFERENCER = "inferencer"
# Workers hand their jobs back to the registry when they stop, so they stop first.
WORKERS = ("tuner", "evaluator", "trainer", INFERENCER)
SERVICES = (REGISTRY, *WORKERS)


def parse_services(texts: Sequence[str]) -> dict[str, int]:
    """``["registry", "trainer=2"]`` → ``{"registry": 1, "trainer": 2}``; nothing means one of each.

    ``["nats"]`` is nats-server alone, which runs in any case.
    """
    violations = Violations()
    counts: dict[str, int] = {}
    for text in texts or SERVICES:
        if text == "nats":
            continue
        name, _, number = text.partition("=")
        count = int(number) if number.isdecimal() else (0 if number else 1)
        violations.check(name in SERVICES, "services", f"{name!r} is none of {', '.join(SERVICES)}")
        violations.check(1 <= count <= 64, "services", f"{text!r} must ask for 1..64 processes")
        violations.check(name not in counts, "services", f"{name!r} is named twice")
        violations.check(name != REGISTRY or count == 1, "services", "SQLite allows one registry process")
        counts[name] = count
    violations.raise_if_any()
    return counts


def process_names(counts: Mapping[str, int]) -> list[str]:
    """Names of the processes: ``trainer``, ``trainer-2``, …"""
    return [name if i == 1 else f"{name}-{i}" for name, count in counts.items() for i in range(1, count + 1)]


def http_port_name(process_name: str) -> str | None:
    """The name of a process's second port, for HTTP; None where it has none."""
    return f"{process_name}-http" if service_of(process_name) == INFERENCER else None


def service_of(process_name: str) -> str:
    return process_name.partition("-")[0]


def command(process_name: str) -> list[str]:
    return [sys.executable, "-m", f"tunix_rt.{service_of(process_name)}"]


def prepare_tokens(home: Home) -> None:
    """The administrator's token and one of each service, made on first use."""
    read_or_create_secret(home.token_path)
    for name in WORKERS:
        read_or_create_secret(home.service_tokens / name)


def nats_user(process_name: str, pool: str) -> str | None:
    """The NATS user of a process; None where it needs none."""
    service = service_of(process_name)
    return {INFERENCER: None, "trainer": trainer_name(pool)}.get(service, service)


def _inferencer_address(process_name: str, ports: Mapping[str, int]) -> str:
    """Of an inferencer that another platform started, if need be; but the registry asks only its own."""
    if service_of(process_name) == REGISTRY and INFERENCER not in ports:
        return ""
    return f"{LOOPBACK}:{ports.get(INFERENCER, 7702)}"


def environment(home: Home, process_name: str, ports: Mapping[str, int], pool: str) -> dict[str, str]:
    """The settings that a service reads; see each service's ``settings.py``. Each has its own secrets only."""
    user = nats_user(process_name, pool)
    http_port = ports.get(http_port_name(process_name) or "")
    service = service_of(process_name)
    alone = service == INFERENCER and REGISTRY not in ports
    token_path = home.token_path if service == REGISTRY or alone else home.service_tokens / service
    return {
        "TUNIX_RT_HOME": str(home.path),
        "TUNIX_RT_LISTEN": f"{LOOPBACK}:{ports[process_name]}",
        "TUNIX_RT_HTTP_LISTEN": f"{LOOPBACK}:{http_port}" if http_port else "",
        "TUNIX_RT_REGISTRY_ADDRESS": "" if alone else f"{LOOPBACK}:{ports.get(REGISTRY, 7700)}",
        "TUNIX_RT_INFERENCER_ADDRESS": _inferencer_address(process_name, ports),
        "TUNIX_RT_NATS_URL": f"nats://{LOOPBACK}:{ports['nats']}",
        "TUNIX_RT_NATS_SEED_FILE": str(home.nats_seed_path(user)) if user else "",
        "TUNIX_RT_TOKEN": "",
        "TUNIX_RT_TOKEN_FILE": str(token_path),
        **({"TUNIX_RT_SERVICE_TOKENS_DIR": str(home.service_tokens)} if service == REGISTRY else {}),
        "TUNIX_RT_DATABASE_URL": home.database_url,
        "TUNIX_RT_AUTO_MIGRATE": "true",
        "TUNIX_RT_SINGLE_USER": "true",
        "TUNIX_RT_ARTIFACTS_URI": home.artifacts_uri,
        "TUNIX_RT_METRICS_PORT": "0",
        # Those of another platform, which the user is a client of, are not for this one.
        **dict.fromkeys(("TUNIX_RT_TLS_CERT_FILE", "TUNIX_RT_TLS_KEY_FILE", "TUNIX_RT_TLS_CA_FILE"), ""),
        "PYTHONUNBUFFERED": "1",
    }
