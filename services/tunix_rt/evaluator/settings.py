"""The evaluator's settings, read from TUNIX_RT_* variables."""

from __future__ import annotations

from pydantic import Field

from tunix_rt.worker.settings import WorkerSettings


class EvaluatorSettings(WorkerSettings):
    """All times in seconds."""

    listen: str = "127.0.0.1:7703"
    inferencer_address: str = "127.0.0.1:7702"
    # Evaluations at once.
    evaluator_workers: int = Field(default=2, ge=1, le=64)
    # Generations in flight of one evaluation; the inferencer batches them.
    evaluator_concurrency: int = Field(default=16, ge=1, le=1024)
    # Results per RecordItems call; what is done goes out at least twice a second.
    evaluator_batch: int = Field(default=16, ge=1, le=1000)
    # How long an inferencer that does not answer is waited for before the attempt fails (to be tried again).
    inferencer_patience_seconds: float = Field(default=600.0, gt=0)
    # Tries of one item that fails for no named reason, before it counts as ERRORED.
    item_tries: int = Field(default=3, ge=1)
    # Deadlines: a queue of generations ahead, and compiling a large model, take minutes.
    generate_timeout_seconds: float = Field(default=600.0, gt=0)
    load_timeout_seconds: float = Field(default=1200.0, gt=0)
