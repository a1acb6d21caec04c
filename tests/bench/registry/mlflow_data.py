"""MLflow's tables with the same runs: one experiment of training runs, and one of evaluations with their scores.

Rows are as its tracking server and client write them (3.x): parameters, tags and metrics in tables of their own, the
last value of each metric again in ``latest_metrics``.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from datetime import datetime

from examples import SCORES
from loading import Loader, bulk_load
from population import EVALSETS, STEPS, PlannedRun, Size, planned_runs

STATUS = {"SUCCEEDED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED"}
_METRICS = ("key", "value", "timestamp", "run_uuid", "step", "is_nan")
_SCORES = ("answer_correctness", "ci_low", "ci_high", "format_compliance", "trace_coherence", "trace_tokens")
_SLICES = ("section/core", "section/edge_case", "category/algebra", "category/logic", "difficulty/easy")


def milliseconds(time: datetime) -> int:
    """Milliseconds since the epoch."""
    return round(time.timestamp() * 1000)


def fill(url: str, experiments: Mapping[str, str], size: Size) -> None:
    """Load ``size`` into a database that MLflow has made; ``experiments`` are the ids of "runs" and "evaluations"."""
    source = random.Random(2)
    with bulk_load(url) as loader:
        for run in planned_runs(size):
            _add_run(loader, run, int(experiments["runs"]), source)
            if run.evalset:
                _add_evaluation(loader, run, int(experiments["evaluations"]), source)


def _add_run(loader: Loader, run: PlannedRun, experiment: int, source: random.Random) -> None:
    run_id = uuid.UUID(int=source.getrandbits(128), version=4).hex
    _add_info(loader, run, run_id, experiment)
    parameters = {
        "base_model": run.base_model,
        "dataset": f"traces-{run.dataset:02d}",
        "pool": run.pool,
        "learning_rate": str(run.learning_rate),
        "seed": str(run.seed),
        "per_device_batch_size": "8",
        "max_steps": "100",
        "max_seq_length": "512",
        "lora_rank": "16",
        "lr_scheduler_type": "cosine",
    }
    for key, value in parameters.items():
        loader.add("params", ("key", "value", "run_uuid"), (key, value, run_id))
    for key, step, value, time in run.points():
        row = (key, value, milliseconds(time), run_id, step, False)
        loader.add("metrics", _METRICS, row)
        if step == STEPS[-1]:
            loader.add("latest_metrics", _METRICS, row)


def _add_evaluation(loader: Loader, run: PlannedRun, experiment: int, source: random.Random) -> None:
    run_id = uuid.UUID(int=source.getrandbits(128), version=4).hex
    _add_info(loader, run, run_id, experiment)
    for key, value in (("evalset", run.evalset), ("model", run.name), ("generation", "greedy"), ("scorer", "1")):
        loader.add("params", ("key", "value", "run_uuid"), (key, value, run_id))
    skill = source.randrange(1, SCORES + 1) / (SCORES + 2) + EVALSETS.index(run.evalset) / 1000
    for key in (*_SCORES, *_SLICES):
        row = (key, skill, milliseconds(run.ended), run_id, 0, False)
        loader.add("metrics", _METRICS, row)
        loader.add("latest_metrics", _METRICS, row)


def _add_info(loader: Loader, run: PlannedRun, run_id: str, experiment: int) -> None:
    info = {
        "run_uuid": run_id,
        "name": run.name,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "user_id": "trainer",
        "status": STATUS[run.state],
        "start_time": milliseconds(run.created),
        "end_time": milliseconds(run.ended),
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": f"/mlruns/{experiment}/{run_id}/artifacts",
        "experiment_id": experiment,
    }
    loader.add("runs", tuple(info), tuple(info.values()))
    client = {"mlflow.user": "trainer", "mlflow.source.name": "train.py", "mlflow.source.type": "LOCAL"}
    for key, value in (run.tags | client | {"mlflow.runName": run.name}).items():
        loader.add("tags", ("key", "value", "run_uuid"), (key, value, run_id))
