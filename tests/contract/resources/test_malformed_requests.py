"""One malformed request per rule: each is refused as INVALID_ARGUMENT, names its field, and leaves no row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlmodel import SQLModel

from tunix_rt.errors import InvalidInput
from tunix_rt.v1 import common_pb2, jobs_pb2
from tunix_rt.v1 import datasets_pb2 as ds
from tunix_rt.v1 import evalsets_pb2 as es
from tunix_rt.v1 import evaluations_pb2 as ev
from tunix_rt.v1 import models_pb2 as md

UUID = "3f0b1c9e-8d0a-4a53-9d5f-6f6f4bb7f0c1"
LEASE = common_pb2.Lease(job_id="eval-1", attempt_id="att-1", epoch=1)
NAN, INFINITY = float("nan"), float("inf")
ITEM = b'{"id": "a", "prompt": "p", "expected_answer": "x"}\n'


@dataclass(frozen=True)
class Rule:
    """A call that breaks it, and the fields that the refusal must name: these and no others."""

    call: Callable[[Any], Any]
    fields: tuple[str, ...]


def build(*fields: str, **given: Any) -> Rule:
    request = {"request_id": UUID, "recipe": "golden-v2"} | given
    return Rule(lambda r: r.datasets.BuildDataset(ds.BuildDatasetRequest(**request), timeout=10), fields)


def imported(*fields: str, first: Any = None, then: tuple[Any, ...] = (), **given: Any) -> Rule:
    spec = ds.ImportDatasetSpec(**({"request_id": UUID, "key": "mine"} | given))

    async def parts() -> AsyncIterator[ds.ImportDatasetRequest]:
        yield first or ds.ImportDatasetRequest(spec=spec)
        for part in then:
            yield part

    return Rule(lambda r: r.datasets.ImportDataset(parts(), timeout=10), fields)


def evalset(*fields: str, **given: Any) -> Rule:
    request = {"request_id": UUID, "key": "quiz", "jsonl": ITEM} | given
    return Rule(lambda r: r.evalsets.CreateEvalSet(es.CreateEvalSetRequest(**request), timeout=10), fields)


def evaluation(*fields: str, generation: dict[str, Any] | None = None, **given: Any) -> Rule:
    config = common_pb2.GenerationConfig(**(generation or {}))
    request = {"request_id": UUID, "model": "model-1", "evalset": "quiz", "generation": config} | given
    return Rule(lambda r: r.evaluations.CreateEvaluation(ev.CreateEvaluationRequest(**request), timeout=10), fields)


def recorded(*fields: str, lease: Any = LEASE, results: int = 1, **given: Any) -> Rule:
    result = {
        "item_id": "a",
        "outcome": ev.ITEM_OUTCOME_SCORED,
        "metrics": {"answer_correctness": 1.0},
    } | given
    request = ev.RecordItemsRequest(lease=lease, results=[ev.ItemResult(**result)] * results)
    return Rule(lambda r: r.evaluations.RecordItems(request, timeout=10), fields)


def completed(*fields: str, **given: Any) -> Rule:
    result = jobs_pb2.EvaluationResult(**({"model_digest": "sha256:" + "0" * 64, "scorer_version": "1"} | given))
    request = jobs_pb2.CompleteRequest(lease=LEASE, state=common_pb2.JOB_STATE_SUCCEEDED, evaluation=result)
    return Rule(lambda r: r.jobs.Complete(request, timeout=10), fields)


def model(*fields: str, **given: Any) -> Rule:
    request = {"request_id": UUID, "name": "a", "reference": "pkg://a"} | given
    return Rule(lambda r: r.models.RegisterModel(md.RegisterModelRequest(**request), timeout=10), fields)


def alias(*fields: str, **given: Any) -> Rule:
    request = {"request_id": UUID, "model_name": "a", "alias": "b", "model_id": "model-1"} | given
    return Rule(lambda r: r.models.SetAlias(md.SetAliasRequest(**request), timeout=10), fields)


def policy(*fields: str, **given: Any) -> Rule:
    request = {"request_id": UUID, "name": "a"} | given
    return Rule(lambda r: r.models.CreateGatePolicy(md.CreateGatePolicyRequest(**request), timeout=10), fields)


def called(service: str, method: str, request: Any, *fields: str) -> Rule:
    return Rule(lambda r: getattr(getattr(r, service), method)(request, timeout=10), fields)


def config(field: str, value: Any, *, at: str = "") -> Rule:
    return evaluation(f"generation.{field}{at}", generation={field: value})


RULES: dict[str, Rule] = {
    "build: request_id is required": build("request_id", request_id=""),
    "build: request_id is a UUID4": build("request_id", request_id="3f0b1c9e-8d0a-1a53-9d5f-6f6f4bb7f0c1"),
    "build: the recipe exists": build("recipe", recipe="gold"),
    "build: the key is a name": build("key", key="No Name"),
    "build: the key is short": build("key", key="a" * 65),
    "build: the size is positive": build("size", size=0),
    "build: the seed is not negative": build("seed", seed=-1),
    "build: the budget is positive": build("max_trace_tokens", max_trace_tokens=0),
    "build: evalsets are named once": build("decontaminate_evalset_ids[1]", decontaminate_evalset_ids=["x", "x"]),
    "build: tags have names": build("tags. ", tags={" ": "x"}),
    "build: tags are short": build("tags.a", tags={"a": "x" * 257}),
    "build: there are few tags": build("tags", tags={f"t{n}": "" for n in range(65)}),
    "import: the spec comes first": imported("spec", first=ds.ImportDatasetRequest(chunk=b"{}")),
    "import: there is one spec": imported("chunk", then=(ds.ImportDatasetRequest(spec=ds.ImportDatasetSpec()),)),
    "import: the key is required": imported("spec.key", key=""),
    "import: request_id is a UUID4": imported("spec.request_id", request_id="7"),
    "import: there is a trace": imported("jsonl"),
    "items: an evalset is given": called("evalsets", "ListEvalSetItems", es.ListEvalSetItemsRequest(), "evalset_id"),
    "delete: an id is given": called("datasets", "DeleteDataset", ds.DeleteDatasetRequest(request_id=UUID), "id"),
    "list: the filter parses": called("datasets", "ListDatasets", ds.ListDatasetsRequest(filter="key ="), "filter"),
    "list: the order is known": called("datasets", "ListDatasets", ds.ListDatasetsRequest(order_by="size"), "order_by"),
    "list: the token is ours": called("models", "ListModels", md.ListModelsRequest(page_token="abc"), "page_token"),
    "list: the page size is not negative": called(
        "models", "ListModels", md.ListModelsRequest(page_size=-1), "page_size"
    ),
    "evalset: the key is a name": evalset("key", key="-quiz"),
    "evalset: there are lines": evalset("jsonl", jsonl=b""),
    "evalset: there are items": evalset("jsonl", jsonl=b"\n\n"),
    "evalset: lines are JSON": evalset("jsonl.line 2.json", jsonl=ITEM + b"{\n"),
    "evalset: ids are unique": evalset("jsonl.line 2.id", jsonl=ITEM + ITEM),
    "evalset: fields are known": evalset("jsonl.line 1.x", jsonl=ITEM.replace(b"}", b', "x": 1}')),
    "evalset: answers are required": evalset("jsonl.line 1.expected_answer", jsonl=b'{"id": "a", "prompt": "p"}'),
    "evalset: answer types are known": evalset(
        "jsonl.line 1.answer_type", jsonl=ITEM.replace(b"}", b', "answer_type": "essay"}')
    ),
    "evalset: ids hold no NUL": evalset("jsonl.item 0.id", jsonl=ITEM.replace(b'"a"', b'"a\\u0000"')),
    "evalset: it is UTF-8": evalset("jsonl", jsonl=b"\xff"),
    "evalset: the description is short": evalset("description", description="x" * 10_001),
    "evaluation: a model is given": evaluation("model", model=""),
    "evaluation: references are well formed": evaluation("model", model="hf://nobody"),
    "evaluation: an evalset is given": evaluation("evalset", evalset=""),
    "evaluation: the threshold is a share": evaluation("threshold", threshold=1.01),
    "evaluation: the threshold is finite": evaluation("threshold", threshold=NAN),
    "evaluation: samples are at most 64": evaluation("samples_per_item", samples_per_item=65),
    "evaluation: samples are not negative": evaluation("samples_per_item", samples_per_item=-1),
    "generation: tokens are positive": config("max_new_tokens", 0),
    "generation: tokens are at most 8192": config("max_new_tokens", 8193),
    "generation: temperature is not negative": config("temperature", -0.1),
    "generation: temperature is finite": config("temperature", INFINITY),
    "generation: top_k is not negative": config("top_k", -1),
    "generation: top_p is above 0": config("top_p", 0.0),
    "generation: min_p is under 1": config("min_p", 1.0),
    "generation: the repetition penalty is above 0": config("repetition_penalty", 0.0),
    "generation: stops are few": config("stop", ["x"] * 17),
    "generation: stops are not empty": config("stop", ["a", ""], at="[1]"),
    "generation: the type is known": config("dtype", "float16"),
    "generation: the type is served": config("dtype", "bfloat16"),
    "generation: stop tokens are few": config("stop_token_ids", list(range(17))),
    "generation: stop tokens are not negative": config("stop_token_ids", [1, -1], at="[1]"),
    "generation: stops hold no NUL": config("stop", ["a\0"], at="[0]"),
    "generation: the system prompt is short": config("system_prompt", "x" * 50_001),
    "generation: the weight format is known": config("weight_format", "int2"),
    "generation: the weight format has a version": config("weight_format", "int8"),
    "cancel: the reason fits": called(
        "evaluations",
        "CancelEvaluation",
        ev.CancelEvaluationRequest(request_id=UUID, id="eval-1", reason=common_pb2.REASON_DIVERGED),
        "reason",
    ),
    "record: a lease is shown": recorded("lease.attempt_id", "lease.epoch", "lease.job_id", lease=common_pb2.Lease()),
    "record: there are results": recorded("results", results=0),
    "record: there are at most 1000": recorded("results", results=1001),
    "record: items have ids": recorded("results[0].item_id", item_id=""),
    "record: samples are numbered from 0": recorded("results[0].sample_index", sample_index=-1),
    "record: an outcome is given": recorded("results[0].outcome", outcome=ev.ITEM_OUTCOME_UNSPECIFIED),
    "record: a scored item has its score": recorded("results[0].metrics.answer_correctness", metrics={}),
    "record: metrics are finite": recorded(
        "results[0].metrics.answer_correctness", metrics={"answer_correctness": NAN}
    ),
    "record: metrics are shares": recorded("results[0].metrics.x", metrics={"answer_correctness": 1.0, "x": 1.0000001}),
    "record: counts are not negative": recorded(
        "results[0].metrics.trace_tokens", metrics={"answer_correctness": 1.0, "trace_tokens": -1.0}
    ),
    "record: the finish reason is known": recorded(
        "results[0].finish_reason", finish_reason=common_pb2.FINISH_REASON_CANCELLED
    ),
    "record: tokens are counted up": recorded("results[0].completion_tokens", completion_tokens=-1),
    "complete: success names the model's digest": completed("evaluation.model_digest", model_digest="sha256:1"),
    "complete: success names the scorer": completed("evaluation.scorer_version", scorer_version=""),
    "leaderboard: an evalset is given": called("evaluations", "GetLeaderboard", ev.GetLeaderboardRequest(), "evalset"),
    "leaderboard: everything at once": called(
        "evaluations",
        "GetLeaderboard",
        ev.GetLeaderboardRequest(order_by="score", generation_digest="abc"),
        "evalset",
        "generation_digest",
        "order_by",
    ),
    "leaderboard: digests are digests": called(
        "evaluations",
        "GetLeaderboard",
        ev.GetLeaderboardRequest(evalset="quiz", generation_digest="abc"),
        "generation_digest",
    ),
    "compare: both are given": called(
        "evaluations",
        "CompareEvaluations",
        ev.CompareEvaluationsRequest(),
        "baseline_evaluation_id",
        "candidate_evaluation_ids",
    ),
    "model: the name is a name": model("name", name="Tiny"),
    "model: a reference is given": model("reference", reference=""),
    "alias: names are names": alias("alias", "model_name", model_name="", alias="A"),
    "alias: a model is given": alias("model_id", model_id=""),
    "alias: a waiver says why": alias("waiver_reason", waiver_reason="   "),
    "alias: a decision or a waiver": alias("gate_decision_id", waiver_reason="x", gate_decision_id="gate-1"),
    "alias policy: an etag is given": called(
        "models",
        "SetAliasPolicy",
        md.SetAliasPolicyRequest(request_id=UUID, model_name="a", alias="b", gate_policy_id="default"),
        "etag",
    ),
    "baseline: the name is a name": called(
        "models", "LockBaseline", md.LockBaselineRequest(request_id=UUID, evaluation_id="eval-1"), "name"
    ),
    "baseline: an evaluation is given": called(
        "models", "LockBaseline", md.LockBaselineRequest(request_id=UUID, name="a"), "evaluation_id"
    ),
    "policy: the margin is a share": policy("margin", margin=1.0),
    "policy: alpha is under one half": policy("alpha", alpha=0.5),
    "policy: alpha is a number": policy("alpha", alpha=NAN),
    "policy: the coverage is a share": policy("min_coverage", min_coverage=1.5),
    "policy: the effect is a share": policy("min_effect", min_effect=-0.1),
    "policy: the metric is a metric's name": policy("metric", metric="a b"),
    "policy: the direction is known": policy("direction", direction=9),
    "policy: there are few slices": policy(
        "slices",
        slices=[md.SliceRule(dimension="category", value=f"c{n}", tier=md.SLICE_TIER_ADVISORY) for n in range(65)],
    ),
    "policy: every slice says what it is": policy(
        "slices[0].dimension",
        "slices[1].tier",
        "slices[2].value",
        "slices[3].min_effect",
        "slices[4].value",
        "slices[5].value",
        slices=[
            md.SliceRule(dimension="topic", tier=md.SLICE_TIER_ADVISORY),
            md.SliceRule(dimension="category"),
            md.SliceRule(dimension="section", value="corr", tier=md.SLICE_TIER_CRITICAL),
            md.SliceRule(dimension="section", value="core", tier=md.SLICE_TIER_CRITICAL, min_effect=-1.0),
            md.SliceRule(dimension="section", value="core", tier=md.SLICE_TIER_CRITICAL),
            md.SliceRule(dimension="difficulty", value="core", tier=md.SLICE_TIER_CRITICAL),
        ],
    ),
    "policy: of a count the margin may be large, but not negative": policy(
        "margin", metric="trace_tokens", margin=-1.0, min_effect=30.0
    ),
    "policy: its baseline is a name": policy("baseline", baseline="A B"),
    "gate: a candidate is given": called(
        "models", "DecideGate", md.DecideGateRequest(request_id=UUID), "candidate_evaluation_id"
    ),
    "gate: nothing is its own baseline": called(
        "models",
        "DecideGate",
        md.DecideGateRequest(request_id=UUID, candidate_evaluation_id="e", baseline_evaluation_id="e"),
        "baseline_evaluation_id",
    ),
    "everything at once": evaluation(
        "evalset",
        "generation.temperature",
        "generation.top_p",
        "model",
        "request_id",
        "samples_per_item",
        "threshold",
        request_id="",
        model="",
        evalset="",
        threshold=-1.0,
        samples_per_item=99,
        generation={"temperature": -1.0, "top_p": 2.0},
    ),
}


@pytest.mark.parametrize("rule", RULES)
async def test_a_malformed_request_names_its_fields_and_leaves_no_row(registry: Any, refusal: Any, rule: str) -> None:
    before = await rows(registry)
    refused = await refusal(RULES[rule].call(registry))
    assert refused.kind is InvalidInput, refused.text
    assert refused.violations == sorted(RULES[rule].fields), refused.text
    assert await rows(registry) == before


async def test_an_export_without_a_format_is_refused(registry: Any, refusal: Any) -> None:
    async def export() -> None:
        async for _ in registry.datasets.ExportDataset(ds.ExportDatasetRequest(id="ds-1"), timeout=10):
            pass

    assert (await refusal(export())).violations == ["format"]


async def rows(registry: Any) -> dict[str, int]:
    """How many rows every table has."""

    def count(session: Any) -> dict[str, int]:
        return {
            name: session.scalar(select(func.count()).select_from(table))
            for name, table in SQLModel.metadata.tables.items()
        }

    return await registry.database.run_read(count)
