"""Several training processes as one: how they find each other, agree, and share the job.

Process 0 is the leader: it was given the job, talks to the service, and writes what is written once. The others get
the job from it, lay out the same batches, and hold their part of the arrays. Knows JAX's coordination and nothing of
models, files or steps. A process alone is a cluster of one, in which nothing is sent anywhere.
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

# A process that is gone is noticed after this long, and takes the others with it.
_HEARTBEAT_SECONDS = 20
# How long a process waits for the others to start; the service of one that waits in vain starts it again.
_PATIENCE_SECONDS = 300
# How long followers wait at the end while the leader exports the model.
_EXPORT_SECONDS = 3600
_STOP = "tunix_rt/hand_back"


class Cluster:
    """A process alone."""

    @property
    def is_leader(self) -> bool:
        return True

    @property
    def size(self) -> int:
        return 1

    def agreed(self, make: Callable[[], Any]) -> Any:
        """The leader's ``make()``, a JSON value, in every process.

        What it raises is raised in the leader alone, whose end ends the others.
        """
        return make()

    def control(self, own: Control) -> Control:
        """``own`` of the leader for all processes, which must all ask for it equally often."""
        return own

    def whole(self, tree: Any) -> Any:
        """``tree`` with every array whole in the memory of this host, wherever its parts are."""
        return tree

    def leave(self) -> None:
        """End together: what the others do while one of them ends is not disturbed by it."""


ALONE = Cluster()


class JoinedCluster(Cluster):
    """This process as one of several that JAX has connected."""

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
    """The leader's wish to stop, obeyed by all processes before the same step.

    The leader, asked before step n and wishing to stop, says so to JAX's coordination service and names the question
    before step n + 2. Nobody can be past that one: results of a step are waited for before the next but one begins, and
    step n has none without the leader. Whoever asks before step n + 2 has results of step n, and so sees the wish.
    """

    def __init__(self, own: Control, is_leader: bool) -> None:
        self._own, self._is_leader = own, is_leader
        # JAX has no public way to its key-value store; Orbax takes this one as well.
        self._store: Any = distributed.global_state.client
        self._questions = 0
        self._stop_at = sys.maxsize

    @property
    def hand_back_requested(self) -> bool:
        self._questions += 1
        if self._stop_at == sys.maxsize:
            self._stop_at = self._decide() if self._is_leader else self._look()
        return self._questions >= self._stop_at

    def _decide(self) -> int:
        if not self._own.hand_back_requested:
            return sys.maxsize
        self._store.key_value_set(f"{_STOP}/at", str(self._questions + 2))
        return self._questions + 2

    def _look(self) -> int:
        found = self._store.key_value_dir_get(_STOP)
        return int(found[0][1]) if found else sys.maxsize

    @property
    def acknowledged_step(self) -> int:
        # Only the leader has rows to keep.
        return self._own.acknowledged_step if self._is_leader else sys.maxsize


def join(member: Member | None) -> Cluster:
    """The cluster of this process; waits until all of its processes are there.

    Must come before anything else asks JAX for devices. Without an address JAX finds the others by the environment's
    own means (TPU metadata, Slurm, Open MPI, Kubernetes). Raises `Transient` when they do not come.
    """
    if member is None:
        return ALONE
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # type: ignore[no-untyped-call]
    # Gloo tells messages of two computations apart by their order alone, so only one may be under way.
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # type: ignore[no-untyped-call]
    # SIGTERM ends a training process at once; a hand-back comes through the leader's service.
    jax.config.update("jax_enable_preemption_service", False)  # type: ignore[no-untyped-call]
    found = dataclasses.asdict(member) if member.coordinator_address else {}
    try:
        jax.distributed.initialize(
            **found,
            initialization_timeout=_PATIENCE_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_EXPORT_SECONDS,
        )
    except RuntimeError as error:
        raise Transient(f"the other processes of the cluster are not there: {error}") from error
    if (jax.process_index() == 0) != (member.process_id == 0):
        raise InvalidInput(
            [FieldViolation("process_id", f"is {member.process_id} by the settings, but {jax.process_index()} to JAX")]
        )
    return JoinedCluster()


def job_of(cluster: Cluster, order: Job | Standby) -> Job:
    """The job to carry out: the leader's, with this process's own directories."""
    shared = Job.of(cluster.agreed(lambda: dataclasses.asdict(order)))
    return dataclasses.replace(
        shared,
        work_dir=order.work_dir,
        cache_dir=order.cache_dir,
        compilation_cache=order.compilation_cache,
        member=order.member,
    )
