"""Training with several processes: connecting, agreeing, and sharing the job.

Process 0 is the leader: it has the job, talks to the service and writes what is written once. The others get the job
from it, lay out the same batches, and hold their part of the arrays. A single process is a cluster of one and sends
nothing.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from tunix_rt.errors import FieldViolation, InvalidInput, Transient
from tunix_rt.trainer.engine.loop import Control
from tunix_rt.trainer.job import Job, Member, Standby

# A lost process is detected after this time; the others then fail, too.
_HEARTBEAT_TIMEOUT_SECONDS = 20
# Maximum wait for the other processes to start. After a time-out the service restarts the process.
_START_TIMEOUT_SECONDS = 300
# Maximum wait of the followers while the leader exports the model.
_EXPORT_TIMEOUT_SECONDS = 3600
_STOP = "tunix_rt/hand_back"


class Cluster:
    """A single process."""

    @property
    def is_leader(self) -> bool:
        return True

    @property
    def size(self) -> int:
        return 1

    def agreed(self, make: Callable[[], Any]) -> Any:
        """The leader's ``make()``, a JSON value, in every process.

        An exception is raised in the leader only; its exit makes the others fail.
        """
        return make()

    def control(self, own: Control) -> Control:
        """The leader's ``own`` control for all processes. All must query it equally often."""
        return own

    def whole(self, tree: Any) -> Any:
        """``tree`` with every array gathered from all devices into the memory of this host."""
        return tree

    def leave(self) -> None:
        """Shut down together, so no process exits while another still needs it."""


ALONE = Cluster()


class JoinedCluster(Cluster):
    """One of several processes connected by JAX."""

    @property
    def is_leader(self) -> bool:
        return jax.process_index() == 0

    @property
    def size(self) -> int:
        return int(jax.process_count())

    def agreed(self, make: Callable[[], Any]) -> Any:
        text = json.dumps(make()).encode() if self.is_leader else b""
        length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
        padded = np.zeros(length, np.uint8)
        padded[: len(text)] = np.frombuffer(text, np.uint8)
        return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes())

    def control(self, own: Control) -> Control:
        return _AgreedControl(own, self.is_leader)

    def whole(self, tree: Any) -> Any:
        return jax.tree.map(lambda leaf: multihost_utils.process_allgather(leaf, tiled=True), tree)

    def leave(self) -> None:
        jax.distributed.shutdown()  # type: ignore[no-untyped-call]


class _AgreedControl:
    """The leader's request to stop, honoured by all processes before the same step.

    When the leader, asked before step n, wants to stop, it writes n + 2 to JAX's coordination service: all processes
    stop at the query before step n + 2. No process can be further: each waits for the results of step n before it
    begins step n + 2, and step n has no results without the leader. So every process sees the entry at that query.
    """

    def __init__(self, own: Control, is_leader: bool) -> None:
        self._own, self._is_leader = own, is_leader
        # JAX has no public API for its key-value store; Orbax uses this one as well.
        self._store: Any = distributed.global_state.client
        self._queries = 0
        self._stop_at = sys.maxsize

    @property
    def hand_back_requested(self) -> bool:
        self._queries += 1
        if self._stop_at == sys.maxsize:
            self._stop_at = self._decide() if self._is_leader else self._read()
        return self._queries >= self._stop_at

    def _decide(self) -> int:
        if not self._own.hand_back_requested:
            return sys.maxsize
        self._store.key_value_set(f"{_STOP}/at", str(self._queries + 2))
        return self._queries + 2

    def _read(self) -> int:
        found = self._store.key_value_dir_get(_STOP)
        return int(found[0][1]) if found else sys.maxsize

    @property
    def acknowledged_step(self) -> int:
        # Only the leader keeps rows.
        return self._own.acknowledged_step if self._is_leader else sys.maxsize


def join(member: Member | None) -> Cluster:
    """The cluster of this process. Waits until all processes are connected.

    Call it before anything else queries JAX's devices. Without an address JAX finds the others through the environment
    (TPU metadata, Slurm, Open MPI, Kubernetes). Raises `Transient` on a time-out.
    """
    if member is None:
        return ALONE
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # type: ignore[no-untyped-call]
    # Gloo matches the messages of computations by order only, so only one may run at a time.
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # type: ignore[no-untyped-call]
    # SIGTERM ends a training process immediately; a hand-back comes through the leader's service.
    jax.config.update("jax_enable_preemption_service", False)  # type: ignore[no-untyped-call]
    found = dataclasses.asdict(member) if member.coordinator_address else {}
    try:
        jax.distributed.initialize(
            **found,
            initialization_timeout=_START_TIMEOUT_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_TIMEOUT_SECONDS,
            shutdown_timeout_seconds=_EXPORT_TIMEOUT_SECONDS,
        )
    except RuntimeError as error:
        raise Transient(f"the other processes of the cluster did not connect: {error}") from error
    if (jax.process_index() == 0) != (member.process_id == 0):
        raise InvalidInput(
            [FieldViolation("process_id", f"is {member.process_id} in the settings, but {jax.process_index()} in JAX")]
        )
    return JoinedCluster()


def job_of(cluster: Cluster, order: Job | Standby) -> Job:
    """The leader's job, with this process's own directories."""
    shared = Job.of(cluster.agreed(lambda: dataclasses.asdict(order)))
    return dataclasses.replace(
        shared,
        work_dir=order.work_dir,
        cache_dir=order.cache_dir,
        compilation_cache=order.compilation_cache,
        member=order.member,
    )
