"""Saves checkpoints beside the training loop.

The state is copied at once, written and committed by one background thread.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import jax
import jax.numpy as jnp

from tunix_rt.trainer.engine.checkpoints import CheckpointDirectory
from tunix_rt.trainer.engine.orbax_checkpoints import Position, write_state
from tunix_rt.trainer.engine.step import TrainState
from tunix_rt.trainer.messages import CheckpointWritten


class CheckpointSaver:
    """One save at a time; an error in the background is raised at the next `save` or `wait`."""

    def __init__(self, directory: CheckpointDirectory, announce: Callable[[CheckpointWritten], None]) -> None:
        self._directory, self._announce = directory, announce
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        # The next step donates the state's buffers, so what is written must be a copy of them.
        self._copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))

    def save(self, step: int, state: TrainState, position: Position) -> None:
        """Begin to save; waits for an earlier save first."""
        self.wait()
        snapshot = jax.block_until_ready(self._copy(state))  # type: ignore[no-untyped-call]
        self._pending = self._thread.submit(self._write, step, snapshot, position)

    def wait(self) -> None:
        """Return when nothing is being saved; raises what went wrong."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, step: int, snapshot: TrainState, position: Position) -> None:
        stored, removed = self._directory.write(step, lambda directory: write_state(directory, snapshot, position))
        self._announce(CheckpointWritten(step, stored.uri, stored.digest, stored.size_bytes, tuple(removed)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
