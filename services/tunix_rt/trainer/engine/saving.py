"""Saves checkpoints beside the training loop.

The state is copied at once, written and committed by one background thread.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import jax
import jax.numpy as jnp

from tunix_rt.trainer.engine.checkpoints import CheckpointDirectory
from tunix_rt.trainer.engine.orbax_checkpoints import Position, begin_arrays, write_position, write_state
from tunix_rt.trainer.engine.step import TrainState
from tunix_rt.trainer.messages import CheckpointWritten


class CheckpointSaver:
    """One save at a time; an error in the background is raised at the next `save` or `wait`.

    Of processes that train together each writes its part of the arrays; the one that ``leads`` writes the rest, commits
    and announces.
    """

    def __init__(
        self, directory: CheckpointDirectory, announce: Callable[[CheckpointWritten], None], *, leads: bool = True
    ) -> None:
        self._directory, self._announce, self._leads = directory, announce, leads
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(self, step: int, state: TrainState, position: Position, *, eval_loss: float | None = None) -> None:
        """Begin to save; waits for an earlier save first. ``eval_loss`` is the state's, where it was measured."""
        self.wait()
        snapshot = jax.block_until_ready(_copy(state))  # type: ignore[no-untyped-call]
        fill = self._filling(step, snapshot, position)
        self._pending = self._thread.submit(self._write, step, fill, eval_loss)

    def _filling(self, step: int, snapshot: TrainState, position: Position) -> Callable[[Path], None]:
        """What fills the directory of ``step`` in the background."""
        if jax.process_count() == 1:
            return lambda directory: write_state(directory, snapshot, position)
        directory = self._directory.staging(step)
        if self._leads:
            directory.mkdir(parents=True, exist_ok=True)
            write_position(directory, position)
        # Begun here and not in the background, where it would get between the others' steps.
        writing = begin_arrays(directory, snapshot)
        return lambda _: writing.result()

    def wait(self) -> None:
        """Return when nothing is being saved; raises what went wrong."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, step: int, fill: Callable[[Path], None], eval_loss: float | None) -> None:
        if not self._leads:
            fill(self._directory.staging(step))
            return
        stored, removed = self._directory.write(step, fill, eval_loss=eval_loss)
        self._announce(CheckpointWritten(step, stored.uri, stored.digest, stored.size_bytes, tuple(removed)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)


@jax.jit
def _copy(state: TrainState) -> TrainState:
    # The next step donates the state's buffers, so what is written must be a copy of them.
    copied: TrainState = jax.tree.map(jnp.copy, state)
    return copied
