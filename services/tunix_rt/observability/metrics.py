"""Prometheus metrics that every service has: RPCs and deliveries. Metrics of one service are defined in the service."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

RPCS = Counter("tunix_rt_rpcs", "RPCs answered, by status code.", ["method", "code"])
RPC_SECONDS = Histogram("tunix_rt_rpc_seconds", "Time to answer an RPC.", ["method"], buckets=_SECONDS)
RPCS_IN_FLIGHT = Gauge("tunix_rt_rpcs_in_flight", "RPCs being answered.")
CALLS_SHED = Counter(
    "tunix_rt_calls_shed", "RPCs refused because they waited too long to begin, by lane and for what.", ["lane", "of"]
)
QUEUE_SECONDS = Histogram(
    "tunix_rt_queue_seconds", "Time that RPCs waited to begin, by lane and for what.", ["lane", "of"], buckets=_SECONDS
)
DELIVERIES = Counter("tunix_rt_deliveries", "Messages handled, by outcome.", ["consumer", "outcome"])
DELIVERY_SECONDS = Histogram("tunix_rt_delivery_seconds", "Time to handle a message.", ["consumer"], buckets=_SECONDS)
AUDIT_EVENTS_LOST = Counter("tunix_rt_audit_events_lost", "Events that waited for the registry too long to be kept.")
PUBLISHED = Counter("tunix_rt_published", "Messages acknowledged by JetStream.", ["kind"])
HEALTHY = Gauge("tunix_rt_healthy", "1 while the server, or what the check names, works.", ["check"])
POOL_UNSERVED = Gauge("tunix_rt_pool_unserved", "1 while jobs wait in a pool that no worker serves.", ["verb", "pool"])
OUTBOX_OLDEST_SECONDS = Gauge("tunix_rt_outbox_oldest_seconds", "Age of what has waited longest to be published.")
