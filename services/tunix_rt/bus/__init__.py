"""NATS JetStream: topology, publishing, consuming. The only place that speaks NATS, and the only one that acks.

Modules load on demand: users, keys and the server's configuration need only the client's installation.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunix_rt.bus.delivery import Delivery as Delivery
    from tunix_rt.bus.delivery import Done as Done
    from tunix_rt.bus.delivery import Outcome as Outcome
    from tunix_rt.bus.delivery import Retry as Retry
    from tunix_rt.bus.events import CloudEvent as CloudEvent
    from tunix_rt.bus.publish import Publisher as Publisher
    from tunix_rt.bus.topology import ConsumerSpec as ConsumerSpec
    from tunix_rt.bus.topology import ensure_topology as ensure_topology

_MODULES = {
    "CloudEvent": "events",
    "ConsumerSpec": "topology",
    "Delivery": "delivery",
    "Done": "delivery",
    "Outcome": "delivery",
    "Publisher": "publish",
    "Retry": "delivery",
    "ensure_topology": "topology",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
