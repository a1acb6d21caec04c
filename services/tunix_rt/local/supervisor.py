"""`LocalPlatform`: nats-server and the five services, started together, kept alive, stopped in order.

Owns the processes of one home.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tunix_rt.bus.users import READER
from tunix_rt.client.platform_file import FILE_NAME, PlatformFile, write_platform_file
from tunix_rt.contract.identifiers import DEFAULT_POOL
from tunix_rt.errors import TunixError
from tunix_rt.local import nats_server, services
from tunix_rt.local.child import Child, ChildSpec
from tunix_rt.local.health import check_health, consumer_stalls, nats_confirms
from tunix_rt.local.home import Home, HomeLock
from tunix_rt.local.ports import DEFAULT_PORTS, LOOPBACK, choose_ports
from tunix_rt.local.settings import LocalSettings, inherited_environment
from tunix_rt.local.watchdog import PATIENT_SECONDS, Watchdog
from tunix_rt.rpc.secret_files import read_or_create_secret

# Before the platform is ready, a service that ends this often has no hope of starting.
MAX_START_FAILURES = 3
POLL_SECONDS = 0.1

OnStatus = Callable[[str, str], None]


class PlatformError(TunixError):
    """The platform could not start; the message names the part and shows the end of its log."""


class StartInterrupted(TunixError):
    """`LocalPlatform.interrupt_start` was called while the platform was starting."""


class LocalPlatform:
    """The whole platform on this machine.

    ``ports`` is "default" (7700…), "free", or a mapping from a part's name to its port (others get free ones).
    ``service_counts`` maps services to their number of processes (default: one of each; see `services.parse_services`).
    ``environment`` is laid over what services get. ``on_status(part, status)`` is called as parts come up.

    Ports and token stay the same for the life of the object, whatever dies and is started again.
    """

    def __init__(
        self,
        home: Path | str,
        *,
        ports: Literal["default", "free"] | Mapping[str, int] = "default",
        service_counts: Mapping[str, int] | None = None,
        environment: Mapping[str, str] | None = None,
        on_status: OnStatus | None = None,
        settings: LocalSettings | None = None,
    ) -> None:
        self._home = Home(Path(home).expanduser().resolve())
        self._counts = dict(services.parse_services([]) if service_counts is None else service_counts)
        self._wanted_ports = DEFAULT_PORTS if ports == "default" else {} if ports == "free" else dict(ports)
        self._extra_environment = dict(environment or {})
        self._on_status: OnStatus = on_status or (lambda part, status: None)
        self._settings = settings or LocalSettings()
        self._lock = HomeLock(self._home.path)
        self._file_lock = threading.Lock()
        self._children: dict[str, Child] = {}
        self._ports: dict[str, int] = {}
        self._state = "stopped"
        self._start_time = ""
        self._interrupted = False
        self._watchdog: Watchdog | None = None

    # What it is

    @property
    def home(self) -> Path:
        return self._home.path

    @property
    def token(self) -> str:
        """Bearer token of the administrator."""
        return read_or_create_secret(self._home.token_path)

    @property
    def addresses(self) -> dict[str, str]:
        """``host:port`` of "nats" and of each service process."""
        others = {"nats-monitor", *self._http_ports.values()}
        return {name: f"{LOOPBACK}:{port}" for name, port in self._ports.items() if name not in others}

    @property
    def http_addresses(self) -> dict[str, str]:
        """Base URL of each process that serves HTTP."""
        return {name: f"http://{LOOPBACK}:{self._ports[port]}/v1" for name, port in self._http_ports.items()}

    @property
    def _http_ports(self) -> dict[str, str]:
        """Name of the HTTP port of each process that has one and was given one."""
        ports = {name: services.http_port_name(name) for name in services.process_names(self._counts)}
        return {name: port for name, port in ports.items() if port in self._ports}

    @property
    def nats_url(self) -> str:
        return f"nats://{LOOPBACK}:{self._ports['nats']}"

    @property
    def nats_user(self) -> str:
        """The NATS user of automation, who may read facts and nothing else."""
        return READER

    @property
    def nats_password(self) -> str:
        return read_or_create_secret(self._home.nats_password_path)

    def nats_seed_path(self, user: str) -> Path:
        """File with the seed of a service's NATS user: "registry", "trainer", "evaluator" or "tuner"."""
        return self._home.nats_seed_path(user)

    @property
    def _pool(self) -> str:
        """The pool of the trainers here."""
        return (inherited_environment() | self._extra_environment).get("TUNIX_RT_POOL") or DEFAULT_POOL

    @property
    def parts(self) -> list[str]:
        """Names of everything supervised: "nats" and the service processes."""
        return list(self._children)

    def pid(self, part: str) -> int | None:
        """Pid of the part's present process; None between an exit and the restart."""
        return self._children[part].pid

    def restarts(self, part: str) -> int:
        """How often the part has died and been started again."""
        return self._children[part].restarts

    def health(self, part: str) -> str:
        """ "SERVING", "NOT_SERVING" or "UNREACHABLE", asked now."""
        if part == "nats":
            return "SERVING" if nats_server.is_ready(self._ports["nats-monitor"]) else "UNREACHABLE"
        return check_health(self.addresses[part])

    def client_environment(self) -> dict[str, str]:
        """What a client process needs in its environment to find and use this platform."""
        return {
            "TUNIX_RT_HOME": str(self.home),
            "TUNIX_RT_REGISTRY_ADDRESS": self.addresses.get("registry", ""),
            "TUNIX_RT_INFERENCER_ADDRESS": self.addresses.get("inferencer", ""),
            "TUNIX_RT_TOKEN": self.token,
        }

    # Its life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and return when all are healthy; on failure stop what was started and raise `PlatformError`.

        Raises `FailedPrecondition` when a platform already runs in the home or a wanted port is taken.
        """
        self._home.prepare()
        self._lock.acquire()
        try:
            services.prepare_tokens(self._home)
            self._start()
        except BaseException:
            self.stop()
            raise

    def interrupt_start(self) -> None:
        """Make a `start` in progress undo itself and raise `StartInterrupted`. Safe in a signal handler."""
        self._interrupted = True

    def stop(self) -> None:
        """Stop everything in order: workers (they hand their jobs back), registry, nats. Leaves no process behind."""
        self._state = "stopping"
        if self._watchdog is not None:
            self._watchdog.end()
        self._publish()
        workers = [child for name, child in self._children.items() if services.service_of(name) in services.WORKERS]
        self._stop_together(workers)
        self._stop_together([c for n, c in self._children.items() if n == services.REGISTRY])
        self._stop_together([c for n, c in self._children.items() if n == "nats"])
        self._state = "stopped"
        (self.home / FILE_NAME).unlink(missing_ok=True)
        self._lock.release()

    def wait_until_healthy(self, *parts: str, timeout_seconds: float | None = None) -> None:
        """Return when the parts (default: all) are SERVING; raises `PlatformError` after the time."""
        deadline = time.monotonic() + (timeout_seconds or self._settings.start_timeout_seconds)
        waiting = list(parts or self.parts)
        while waiting:
            waiting = [part for part in waiting if not self._became_healthy(part)]
            if waiting and time.monotonic() > deadline:
                raise self._failure(waiting[0], "did not become healthy in time")
            if waiting:
                time.sleep(POLL_SECONDS)

    def _start(self) -> None:
        self._state = "starting"
        self._start_time = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        processes = services.process_names(self._counts)
        for_http = [port for name in processes if (port := services.http_port_name(name))]
        self._ports = choose_ports(["nats", "nats-monitor", *processes, *for_http], self._wanted_ports)
        nats_server.write_config(
            self._home.nats_config,
            port=self._ports["nats"],
            monitor_port=self._ports["nats-monitor"],
            store=self._home.nats_store,
            secrets=self._home.secrets,
            pools=[DEFAULT_POOL, self._pool],
        )
        self._add("nats", [nats_server.find_binary(), "-c", str(self._home.nats_config)])
        self.wait_until_healthy("nats")
        for name in processes:
            self._add(name, services.command(name))
        self.wait_until_healthy()
        self._state = "ready"
        self._publish()
        if self._settings.watchdog:
            self._watchdog = Watchdog(self._children, self._ailing, patience_seconds=self._settings.patience_seconds)
            self._watchdog.start()

    def _ailing(self, part: str) -> str:
        """What is wrong with a part whose process may well live; "" for nothing. A service that says NOT_SERVING knows
        why, and waits for something else."""
        if part != "nats":
            if check_health(self.addresses[part], PATIENT_SECONDS) == "UNREACHABLE":
                return "does not answer"
            # It is the worker's own fault where NATS answers others.
            stalled = consumer_stalls(self.addresses[part], PATIENT_SECONDS) and self._ailing("nats") == ""
            return "takes no commands" if stalled else ""
        if not nats_server.is_ready(self._ports["nats-monitor"], PATIENT_SECONDS):
            return "does not answer"
        confirms = nats_confirms(self.addresses, PATIENT_SECONDS)
        return "" if confirms else "does not confirm what the registry publishes"

    def _add(self, name: str, argv: list[str]) -> None:
        spec = ChildSpec(name, argv, self._environment(name), self._home.log_path(name))
        child = Child(spec, on_change=self._publish)
        self._children[name] = child
        self._on_status(name, "starting")
        child.start()

    def _environment(self, name: str) -> dict[str, str]:
        if name == "nats":
            return inherited_environment()
        own = services.environment(self._home, name, self._ports, self._pool)
        return inherited_environment() | own | self._extra_environment

    def _became_healthy(self, part: str) -> bool:
        child = self._children[part]
        if self._state == "starting" and self._interrupted:
            raise StartInterrupted("the start was interrupted")
        if self._state == "starting" and child.restarts >= MAX_START_FAILURES:
            raise self._failure(part, f"keeps ending (exit {child.last_exit})")
        if self.health(part) != "SERVING":
            return False
        self._on_status(part, "ready")
        return True

    def _failure(self, part: str, what: str) -> PlatformError:
        child = self._children[part]
        return PlatformError(f"{part} {what}; {child.spec.log_path} ends with:\n{child.log_tail()}")

    def _stop_together(self, children: list[Child]) -> None:
        for child in children:
            child.stop()
        deadline = time.monotonic() + self._settings.stop_timeout_seconds
        for child in children:
            orderly = child.join(max(0.0, deadline - time.monotonic()))
            self._on_status(child.spec.name, "stopped" if orderly else "killed")

    def _publish(self) -> None:
        with self._file_lock:
            if not self._ports:
                return
            children = dict(self._children)
            content = PlatformFile(
                state=self._state,
                supervisor_pid=os.getpid(),
                token_path=str(self._home.token_path),
                nats_url=self.nats_url,
                nats_user=self.nats_user,
                nats_password_path=str(self._home.nats_password_path),
                start_time=self._start_time,
                addresses=self.addresses,
                pids={name: pid for name, child in children.items() if (pid := child.pid) is not None},
                restarts={name: child.restarts for name, child in children.items()},
                http=self.http_addresses,
            )
            write_platform_file(self.home, content)
