"""MLflow's side of the measurement: the same questions and reports over REST, on a connection that stays open."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from latency import Times, rate, timed
from population import EVALSETS, METRICS, Size
from searches import SEARCHES

PAGE = 50
# Metrics, parameters and tags of one call of log-batch.
MAX_BATCH = 1000
_WARM_UP = 12


class Mlflow:
    """Calls of a client; every thread has its own connection."""

    def __init__(self, port: int, experiments: Mapping[str, str], size: Size) -> None:
        self._port, self._experiments, self._size = port, experiments, size
        self._local = threading.local()

    def post(self, path: str, body: bytes | Mapping[str, object]) -> bytes:
        """The body of the answer. Raises `RuntimeError` with what MLflow says."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=300)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", f"/api/2.0/mlflow/{path}", data, {"content-type": "application/json"})
        response = connection.getresponse()
        answer: bytes = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {answer[:500].decode()}")
        return answer

    def new_experiments(self, names: Sequence[str]) -> dict[str, str]:
        """Ids of new experiments by name."""
        return {name: json.loads(self.post("experiments/create", {"name": name}))["experiment_id"] for name in names}

    def found(self, filter: str) -> list[str]:
        """Names of the first page of runs."""
        return [run["info"]["run_name"] for run in json.loads(self._search(filter)).get("runs", [])]

    def _search(self, filter: str) -> bytes:
        body = {"experiment_ids": [self._experiments["runs"]], "filter": filter, "max_results": PAGE}
        return self.post("runs/search", body)

    def searches(self, calls: int, datasets: list[str]) -> dict[str, Times]:
        """The first page of runs under each filter."""
        times = {}
        for name, make in SEARCHES.items():
            source = random.Random(name)
            filters = [make(source, self._size, datasets).mlflow for _ in range(calls + _WARM_UP)]
            timed(self._search, filters[:_WARM_UP])
            times[name] = timed(self._search, filters[_WARM_UP:])
        return times

    def leaderboards(self, calls: int) -> Times:
        """The evaluations of an evalset, best first."""
        bodies = [
            {
                "experiment_ids": [self._experiments["evaluations"]],
                "filter": f"params.evalset = '{EVALSETS[number % len(EVALSETS)]}'",
                "order_by": ["metrics.answer_correctness DESC"],
                "max_results": PAGE,
            }
            for number in range(calls + _WARM_UP)
        ]
        timed(lambda body: self.post("runs/search", body), bodies[:_WARM_UP])
        return timed(lambda body: self.post("runs/search", body), bodies[_WARM_UP:])

    def ingestion(self, clients: int, seconds: float) -> float:
        """Points per second that so many clients log, each into its own run, in calls of `MAX_BATCH` points."""
        return rate([_Batches(self, self._new_run()).send for _ in range(clients)], seconds)

    def _new_run(self) -> str:
        body = {"experiment_id": self._experiments["runs"], "start_time": int(time.time() * 1000)}
        answer: dict[str, Any] = json.loads(self.post("runs/create", body))
        return str(answer["run"]["info"]["run_id"])


class _Batches:
    """A client that logs new steps of all metrics with every call."""

    def __init__(self, mlflow: Mlflow, run_id: str) -> None:
        self._mlflow, self._run_id, self._step = mlflow, run_id, 0

    def send(self) -> int:
        """Log one batch; how many points it held."""
        now = int(time.time() * 1000)
        steps = [(METRICS[n % len(METRICS)], self._step + n // len(METRICS)) for n in range(MAX_BATCH)]
        metrics = [{"key": key, "value": 1.0 / (step + 1), "timestamp": now, "step": step} for key, step in steps]
        self._step += MAX_BATCH // len(METRICS)
        self._mlflow.post("runs/log-batch", {"run_id": self._run_id, "metrics": metrics})
        return MAX_BATCH
