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
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            response = self._sent(path, data)
        except (ConnectionError, http.client.RemoteDisconnected):
            # The server has closed a connection that was not used for a while.
            self._local.connection = None
            response = self._sent(path, data)
        answer: bytes = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {answer[:500].decode()}")
        return answer

    def _sent(self, path: str, data: bytes) -> http.client.HTTPResponse:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=300)
        connection.request("POST", f"/api/2.0/mlflow/{path}", data, {"content-type": "application/json"})
        response: http.client.HTTPResponse = connection.getresponse()
        return response

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

    def ingestion(self, clients: int, points: int) -> float:
        """Points per second that so many clients log together, each into its own run, in calls of `MAX_BATCH`."""
        bodies = [_batches(self._new_run(), points // clients) for _ in range(clients)]
        return rate(lambda body: self.post("runs/log-batch", body), bodies, MAX_BATCH)

    def _new_run(self) -> str:
        body = {"experiment_id": self._experiments["runs"], "start_time": int(time.time() * 1000)}
        answer: dict[str, Any] = json.loads(self.post("runs/create", body))
        return str(answer["run"]["info"]["run_id"])


def _batches(run_id: str, points: int) -> list[bytes]:
    """Bodies of log-batch: all metrics of one step after the other, as of one time."""
    bodies = []
    for start in range(0, points // MAX_BATCH * MAX_BATCH, MAX_BATCH):
        numbers = [divmod(number, len(METRICS)) for number in range(start, start + MAX_BATCH)]
        metrics = [
            {"key": METRICS[metric], "value": 1.0 / (step + 1), "timestamp": 1_767_225_600_000 + step, "step": step}
            for step, metric in numbers
        ]
        bodies.append(json.dumps({"run_id": run_id, "metrics": metrics}).encode())
    return bodies
