"""A handful of runs and evaluations made through the registry's API, whose stored rows the rest is copied from."""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
from population import BASE_MODELS, DATASETS, EVALSETS, ITEMS, STATES
from tests.fixtures.honest_results import honest_result

from tunix_rt.v1 import (
    common_pb2,
    datasets_pb2,
    datasets_pb2_grpc,
    evalsets_pb2,
    evalsets_pb2_grpc,
    evaluations_pb2,
    evaluations_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    runs_pb2,
    runs_pb2_grpc,
)

# So many differently scored evaluations of each evalset.
SCORES = 16
_CATEGORIES = ("algebra", "arithmetic", "geometry", "logic", "units")
_SECTIONS = ("core", "trace_sensitive", "edge_case")
_DIFFICULTIES = ("easy", "medium", "hard")


@dataclass(frozen=True)
class Example:
    """A run as the registry keeps it; ``evaluation_id`` is "" for one that is not evaluated."""

    state: str
    evalset: str
    run_id: str
    evaluation_id: str


@dataclass(frozen=True)
class Examples:
    """What was made; ``datasets`` are ids in the order of the population's numbers."""

    datasets: list[str]
    runs: list[Example]


def request_id() -> str:
    return str(uuid.uuid4())


def digest_of(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def make_examples(channel: grpc.Channel) -> Examples:
    """Datasets, evalsets, one run of each end, and `SCORES` evaluated runs per evalset."""
    datasets = [_dataset(channel, number) for number in range(DATASETS + 1)]
    for number, key in enumerate(EVALSETS):
        _evalset(channel, number, key)
    # Filters by dataset must not find the examples themselves.
    made = _Runs(channel, datasets.pop())
    runs = [made.ended(state) for state in STATES]
    runs += [made.evaluated(key, number) for key in EVALSETS for number in range(SCORES)]
    return Examples(datasets, runs)


def _dataset(channel: grpc.Channel, number: int) -> str:
    trace = {
        "trace_version": "1.0",
        "prompt": f"What is {number} plus one?",
        "steps": [{"i": 1, "type": "compute", "content": f"{number} + 1 = {number + 1}"}],
        "final_answer": str(number + 1),
    }

    def parts() -> Iterator[datasets_pb2.ImportDatasetRequest]:
        spec = datasets_pb2.ImportDatasetSpec(request_id=request_id(), key=f"traces-{number:02d}")
        yield datasets_pb2.ImportDatasetRequest(spec=spec)
        yield datasets_pb2.ImportDatasetRequest(chunk=json.dumps(trace).encode() + b"\n")

    stub: datasets_pb2_grpc.DatasetServiceStub = datasets_pb2_grpc.DatasetServiceStub(channel)
    return stub.ImportDataset(parts()).id


def _evalset(channel: grpc.Channel, number: int, key: str) -> None:
    items = [
        {
            "id": f"{key}-{place:03d}",
            "prompt": f"A train leaves at {place} and rides {number} hours. When does it arrive? Think step by step.",
            "expected_answer": str(place + number),
            "section": _SECTIONS[place % 10 // 4],
            "category": _CATEGORIES[place % len(_CATEGORIES)],
            "difficulty": _DIFFICULTIES[place % len(_DIFFICULTIES)],
            "answer_type": "numeric",
        }
        for place in range(ITEMS)
    ]
    jsonl = "".join(json.dumps(item) + "\n" for item in items).encode()
    stub: evalsets_pb2_grpc.EvalSetServiceStub = evalsets_pb2_grpc.EvalSetServiceStub(channel)
    stub.CreateEvalSet(evalsets_pb2.CreateEvalSetRequest(request_id=request_id(), key=key, jsonl=jsonl))


class _Runs:
    """Lets runs go through their lives."""

    def __init__(self, channel: grpc.Channel, dataset: str) -> None:
        self._jobs: jobs_pb2_grpc.JobServiceStub = jobs_pb2_grpc.JobServiceStub(channel)
        self._runs: runs_pb2_grpc.RunServiceStub = runs_pb2_grpc.RunServiceStub(channel)
        self._evaluations: evaluations_pb2_grpc.EvaluationServiceStub
        self._evaluations = evaluations_pb2_grpc.EvaluationServiceStub(channel)
        self._dataset = dataset
        datasets: datasets_pb2_grpc.DatasetServiceStub = datasets_pb2_grpc.DatasetServiceStub(channel)
        stored = datasets.GetDataset(datasets_pb2.GetDatasetRequest(id=dataset)).artifact
        self._artifacts = stored.uri.partition("/sha256/")[0]

    def claimed(self, evalset: str = "") -> common_pb2.Lease:
        """The lease of a new run."""
        spec = runs_pb2.RunSpec(
            base_model=BASE_MODELS[0],
            dataset_id=self._dataset,
            hyperparameters=runs_pb2.Hyperparameters(learning_rate=1e-4, lora=runs_pb2.LoraConfig(rank=16)),
            evaluate_on=[runs_pb2.EvaluateOn(evalset=evalset)] if evalset else [],
        )
        run = self._runs.CreateRun(
            runs_pb2.CreateRunRequest(request_id=request_id(), spec=spec, display_name="example")
        )
        environment = {"python": "3.11", "jax": "0.10.2", "devices": "1 × cpu"}
        claim = jobs_pb2.ClaimRequest(job_id=run.id, worker_id="trainer-1", environment=environment)
        return self._jobs.Claim(claim).lease

    def ended(self, state: str, evalset: str = "") -> Example:
        """A run that ended in ``state``."""
        lease = self.claimed(evalset)
        end = jobs_pb2.CompleteRequest(lease=lease, state=common_pb2.JobState.Value(f"JOB_STATE_{state}"))
        if state == "SUCCEEDED":
            digest = digest_of(lease.job_id)
            files = [common_pb2.ArtifactFile(path="adapter_model.safetensors", digest=digest, size_bytes=10_000)]
            uri = f"{self._artifacts}/{digest.removeprefix('sha256:')}"
            model = common_pb2.Artifact(uri=uri, digest=digest, size_bytes=10_000, files=files)
            end.run.CopyFrom(jobs_pb2.RunResult(model=model, step=100))
        elif state == "FAILED":
            end.reason, end.message = common_pb2.REASON_DIVERGED, "loss is nan at step 40"
        else:
            self._runs.CancelRun(runs_pb2.CancelRunRequest(request_id=request_id(), id=lease.job_id))
        self._jobs.Complete(end)
        done = self._runs.GetRun(runs_pb2.GetRunRequest(id=lease.job_id))
        return Example(state, evalset, done.id, done.evaluation_ids[0] if evalset else "")

    def evaluated(self, evalset: str, number: int) -> Example:
        """A run whose model was evaluated: the higher ``number``, the better its answers are."""
        run = self.ended("SUCCEEDED", evalset)
        source = random.Random(f"{evalset} {number}")
        claim = self._jobs.Claim(jobs_pb2.ClaimRequest(job_id=run.evaluation_id, worker_id="evaluator-1"))
        given = claim.evaluation
        skill = (number + 1) / (SCORES + 2)
        results = [_result(item, source, skill) for item in given.items]
        self._evaluations.RecordItems(evaluations_pb2.RecordItemsRequest(lease=claim.lease, results=results))
        result = jobs_pb2.EvaluationResult(
            model_digest=given.model.digest, scorer_version=given.evaluation.identity.scorer_version
        )
        end = jobs_pb2.CompleteRequest(lease=claim.lease, state=common_pb2.JOB_STATE_SUCCEEDED, evaluation=result)
        self._jobs.Complete(end)
        return run


def _result(item: evalsets_pb2.EvalSetItem, source: random.Random, skill: float) -> evaluations_pb2.ItemResult:
    right = source.random() < skill
    answer = item.expected_answer if right else str(source.randrange(1000))
    reasoning = " ".join(f"Step {step}: {step} + {source.randrange(9)} is carried on." for step in range(1, 6))
    document = {"id": item.id, "prompt": item.prompt, "expected_answer": item.expected_answer}
    kind = evalsets_pb2.AnswerType.Name(item.answer_type).removeprefix("ANSWER_TYPE_").lower()
    prediction = f"<reasoning>{reasoning}</reasoning><answer>{answer}</answer>"
    return honest_result(document | {"answer_type": kind}, prediction, prompt_tokens=40, completion_tokens=75)
