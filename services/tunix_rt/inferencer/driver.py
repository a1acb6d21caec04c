"""The thread that drives all engines: one round per model in turn. A failing engine affects only its own model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from tunix_rt.errors import Transient
from tunix_rt.inferencer.scheduler import Scheduler
from tunix_rt.observability.logs import get_logger

_log = get_logger(__name__)


class Driver:
    """Runs `Scheduler.tick` of every attached scheduler that has work, until `stop`."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._attached: dict[str, tuple[Scheduler, Callable[[], object]]] = {}
        self._tasks: list[tuple[str, Callable[[], object], Future[None]]] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine-driver", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current round. Remaining requests fail as UNAVAILABLE. Blocks."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join()
        for _, _, done in self._tasks:
            _end(done, Transient("the inferencer is shutting down"))
        for scheduler, _ in self._attached.values():
            scheduler.fail(Transient("the inferencer is shutting down"))

    def attach(self, name: str, scheduler: Scheduler, on_failure: Callable[[], object]) -> None:
        """Start driving ``scheduler``. ``on_failure`` is called on the driver's thread if its engine fails."""
        with self._condition:
            self._attached[name] = (scheduler, on_failure)
            self._condition.notify()

    def detach(self, name: str) -> None:
        """Stop driving a scheduler. Its waiting requests fail; clients must load the model again."""
        with self._condition:
            found = self._attached.pop(name, None)
        if found is not None:
            found[0].refuse(Transient("the model was unloaded; load it again"))

    def wake(self) -> None:
        """Notify the driver that a scheduler has work."""
        with self._condition:
            self._condition.notify()

    def between_rounds(self, name: str, work: Callable[[], object]) -> Future[None]:
        """Run ``work`` on the driver's thread before the next round of ``name``; the future completes after it.

        The future raises `Transient` when ``name`` is no longer attached, or the exception of ``work``.
        """
        done: Future[None] = Future()
        with self._condition:
            stopped = self._stopping
            if not stopped:
                self._tasks.append((name, work, done))
                self._condition.notify()
        if stopped:
            _end(done, Transient("the inferencer is shutting down"))
        return done

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopping or bool(self._tasks) or bool(self._with_work()))
                if self._stopping:
                    return
                tasks, self._tasks = self._tasks, []
                attached = set(self._attached)
                ready = self._with_work()
            for name, work, done in tasks:
                if name in attached:
                    _run_task(work, done)
                else:
                    _end(done, Transient("the model was unloaded; load it again"))
            for name, scheduler, on_failure in ready:
                try:
                    scheduler.tick()
                except BaseException as error:
                    # Whatever failed (memory, XLA, a lost donated cache, a panic of native code): the engine's state is
                    # unknown now.
                    _log.exception("engine failed", model=name)
                    with self._condition:
                        self._attached.pop(name, None)
                    # Notify the pool first: a client that loads the model again must not get this one.
                    on_failure()
                    scheduler.fail(Transient(f"the engine failed ({type(error).__name__}); load the model again"))
            del ready, tasks

    def _with_work(self) -> list[tuple[str, Scheduler, Callable[[], object]]]:
        return [(name, s, failed) for name, (s, failed) in self._attached.items() if s.has_work]


def _run_task(work: Callable[[], object], done: Future[None]) -> None:
    """Run ``work`` unless its future was cancelled."""
    if done.set_running_or_notify_cancel():
        try:
            work()
            done.set_result(None)
        except Exception as error:
            done.set_exception(error)


def _end(done: Future[None], error: Exception) -> None:
    if done.set_running_or_notify_cancel():
        done.set_exception(error)
