"""The single-machine platform: a real nats-server and the five services under one supervisor.

Importing this package is cheap: a module is imported when one of its names is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunix_rt.local.daemon import start_detached as start_detached
    from tunix_rt.local.daemon import stop_running as stop_running
    from tunix_rt.local.foreground import run_until_signalled as run_until_signalled
    from tunix_rt.local.health import check_part as check_part
    from tunix_rt.local.health import nats_confirms as nats_confirms
    from tunix_rt.local.home import lock_holder as lock_holder
    from tunix_rt.local.services import parse_services as parse_services
    from tunix_rt.local.supervisor import LocalPlatform as LocalPlatform
    from tunix_rt.local.supervisor import PlatformError as PlatformError

_HOME_OF = {
    "LocalPlatform": "supervisor",
    "PlatformError": "supervisor",
    "check_part": "health",
    "lock_holder": "home",
    "nats_confirms": "health",
    "parse_services": "services",
    "run_until_signalled": "foreground",
    "start_detached": "daemon",
    "stop_running": "daemon",
}


def __getattr__(name: str) -> object:
    if name in _HOME_OF:
        return getattr(import_module(f"tunix_rt.local.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
