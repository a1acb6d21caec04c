"""The registry's side of the measurement: every figure is of calls over gRPC to a process that serves the database."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import grpc
from examples import request_id
from google.protobuf.message import Message
from latency import Times, rate, timed
from population import BASE_MODELS, EVALSETS, METRICS, TEAMS, Size
from searches import SEARCHES

from tunix_rt.v1 import (
    common_pb2,
    evaluations_pb2,
    evaluations_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    runs_pb2,
    runs_pb2_grpc,
)

M = TypeVar("M", bound=Message)

PAGE = 50
_WARM_UP = 20


class Ours:
    """Calls of one client."""

    def __init__(self, channel: grpc.Channel, size: Size, datasets: list[str]) -> None:
        self._jobs: jobs_pb2_grpc.JobServiceStub = jobs_pb2_grpc.JobServiceStub(channel)
        self._runs: runs_pb2_grpc.RunServiceStub = runs_pb2_grpc.RunServiceStub(channel)
        self._evaluations: evaluations_pb2_grpc.EvaluationServiceStub
        self._evaluations = evaluations_pb2_grpc.EvaluationServiceStub(channel)
        self._size, self._datasets = size, datasets

    def found(self, filter: str) -> list[str]:
        """Names of the first page of runs."""
        return [run.display_name for run in self._list(runs_pb2.ListRunsRequest(filter=filter, page_size=PAGE)).runs]

    def searches(self, calls: int) -> dict[str, Times]:
        """The first page of runs under each filter; and pages further on."""
        times = {}
        for name, make in SEARCHES.items():
            source = random.Random(name)
            filters = [make(source, self._size, self._datasets).ours for _ in range(calls + _WARM_UP)]
            requests = [runs_pb2.ListRunsRequest(filter=text, page_size=PAGE) for text in filters]
            times[name] = _measured(self._list, requests)
        further = self._further_pages(calls + _WARM_UP)
        return times | ({"a tag (2 %), further pages": _measured(self._list, further)} if further else {})

    def _list(self, request: runs_pb2.ListRunsRequest) -> runs_pb2.ListRunsResponse:
        return self._runs.ListRuns(request)

    def _further_pages(self, calls: int) -> list[runs_pb2.ListRunsRequest]:
        """The second to fifth page for one team after the other."""
        requests: list[runs_pb2.ListRunsRequest] = []
        for team in range(TEAMS):
            request = runs_pb2.ListRunsRequest(filter=f'tags.team = "team-{team:02d}"', page_size=PAGE)
            for _ in range(4):
                request.page_token = self._list(request).next_page_token
                if not request.page_token:
                    break
                requests.append(_copy(request))
        return [requests[number % len(requests)] for number in range(calls)] if requests else []

    def leaderboards(self, calls: int) -> dict[str, Times]:
        """First pages of every evalset, further ones, and first ones under a filter."""
        boards = [evaluations_pb2.GetLeaderboardRequest(evalset=key, page_size=PAGE) for key in EVALSETS]
        further = []
        for board in boards:
            request = _copy(board)
            for _ in range(calls // len(boards) + 1):
                request.page_token = self._evaluations.GetLeaderboard(request).next_page_token
                if not request.page_token:
                    break
                further.append(_copy(request))
        filtered = [
            evaluations_pb2.GetLeaderboardRequest(
                evalset=EVALSETS[number % len(EVALSETS)],
                page_size=PAGE,
                filter=f'tags.team = "team-{number % TEAMS:02d}"',
            )
            for number in range(calls + _WARM_UP)
        ]
        repeated = [boards[number % len(boards)] for number in range(calls + _WARM_UP)]
        later = [further[number % len(further)] for number in range(calls + _WARM_UP)] if further else []
        found = {"first page": repeated, "further pages": later, "of one tag": filtered}
        return {
            name: _measured(self._evaluations.GetLeaderboard, requests) for name, requests in found.items() if requests
        }

    def comparisons(self, calls: int) -> Times:
        """Two evaluations of one evalset, drawn anew for each call."""
        source = random.Random(3)
        ids = {key: self._evaluation_ids(key) for key in EVALSETS}
        requests = []
        for number in range(calls + _WARM_UP):
            baseline, candidate = source.sample(ids[EVALSETS[number % len(EVALSETS)]], 2)
            requests.append(
                evaluations_pb2.CompareEvaluationsRequest(
                    baseline_evaluation_id=baseline, candidate_evaluation_ids=[candidate], page_size=PAGE
                )
            )
        return _measured(self._evaluations.CompareEvaluations, requests)

    def _evaluation_ids(self, key: str) -> list[str]:
        request = evaluations_pb2.ListEvaluationsRequest(filter=f'evalset_key = "{key}"', page_size=1000)
        return [each.id for each in self._evaluations.ListEvaluations(request).evaluations]

    def ingestion(self, clients: int, batch: int, points: int) -> float:
        """Points per second that so many workers report together, each for its own run, in calls of ``batch``."""
        leases = [self._claimed() for _ in range(clients)]
        return rate(self._runs.ReportMetrics, [_reports(lease, batch, points // clients) for lease in leases], batch)

    def _claimed(self) -> common_pb2.Lease:
        spec = runs_pb2.RunSpec(base_model=BASE_MODELS[0], dataset_id=self._datasets[0])
        run = self._runs.CreateRun(runs_pb2.CreateRunRequest(request_id=request_id(), spec=spec))
        return self._jobs.Claim(jobs_pb2.ClaimRequest(job_id=run.id, worker_id="trainer-1")).lease


def _reports(lease: common_pb2.Lease, batch: int, points: int) -> list[runs_pb2.ReportMetricsRequest]:
    """What a worker reports of one run: all metrics of one step after the other, as of one time."""
    values = []
    for number in range(points // batch * batch):
        step, metric = divmod(number, len(METRICS))
        if metric == 0:
            now = datetime.now(UTC)
        values.append(common_pb2.MetricPoint(key=METRICS[metric], step=step, value=1.0 / (step + 1), time=now))
    return [
        runs_pb2.ReportMetricsRequest(lease=lease, points=values[start : start + batch])
        for start in range(0, len(values), batch)
    ]


def _copy(message: M) -> M:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _measured(call: Callable[[Any], object], requests: Sequence[Any]) -> Times:
    timed(call, requests[:_WARM_UP])
    return timed(call, requests[_WARM_UP:])
