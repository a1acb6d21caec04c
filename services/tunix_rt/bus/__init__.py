"""NATS JetStream: topology, publishing, consuming. The only place that speaks NATS, and the only one that acks."""

from tunix_rt.bus.consume import consume
from tunix_rt.bus.delivery import Delivery, Done, Outcome, Retry
from tunix_rt.bus.events import CloudEvent
from tunix_rt.bus.publish import Publisher
from tunix_rt.bus.topology import ConsumerSpec, ensure_topology

__all__ = [
    "CloudEvent",
    "ConsumerSpec",
    "Delivery",
    "Done",
    "Outcome",
    "Publisher",
    "Retry",
    "consume",
    "ensure_topology",
]
