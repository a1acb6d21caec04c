"""Everyone gives the same verdict on ids, names, tags, pools, metrics, thresholds, samples and digests.

As `test_agreement` for hyperparameters and generation configs: each rule has its cases, ``accepted`` on and just inside
its ends, ``refused`` just beyond, and every place that applies the rule is asked. A rule without cases fails
`test_every_rule_of_the_table_has_cases`.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from tunix_rt.artifacts.digests import hex_of
from tunix_rt.contract import digests, generation, hyperparameters, identifiers, scores, weight_formats
from tunix_rt.contract.rules import Rule
from tunix_rt.errors import InvalidArtifact, InvalidInput, Violations
from tunix_rt.evaluator.scoring_servicer import ScoringServicer
from tunix_rt.inferencer.messages import check_load_adapter, check_request
from tunix_rt.registry.evaluations.checks import cancel_reason as evaluation_cancelled
from tunix_rt.registry.evaluations.checks import evaluation_spec, leaderboard_order, recorded
from tunix_rt.registry.jobs.checks import check_claim, read_release
from tunix_rt.registry.kernel.calls import checked_id
from tunix_rt.registry.kernel.fields import check_id, check_name, check_tags
from tunix_rt.registry.kernel.messages import read_progress
from tunix_rt.registry.runs.checks import cancel_reason, check_labels, read_points, resolve_spec
from tunix_rt.registry.tables import METADATA
from tunix_rt.search_space.settings import check_settings
from tunix_rt.search_space.space import Space
from tunix_rt.trainer.settings import TrainerSettings
from tunix_rt.v1 import (
    common_pb2,
    evalsets_pb2,
    evaluations_pb2,
    inference_pb2,
    jobs_pb2,
    runs_pb2,
    scoring_pb2,
    sweeps_pb2,
)

TINY = 5e-324
ABOVE_1 = math.nextafter(1, 2)
NOT_FINITE = (math.nan, math.inf, -math.inf)
HEX = "0123456789abcdef" * 4
REQUEST_ID = "3f0b1c9e-8d0a-4a53-9d5f-6f6f4bb7f0c1"

# Where a rule is applied: whether a value is accepted there.
Side = Callable[[Any], bool]


@dataclass(frozen=True)
class Cases:
    accepted: Sequence[Any]
    refused: Sequence[Any]
    sides: Sequence[Side]


def fields_of(check: Callable[[Violations], object]) -> set[str]:
    """The fields that ``check`` adds, or raises."""
    violations = Violations()
    try:
        check(violations)
    except InvalidInput as error:
        return {each.field for each in error.violations}
    return {each.field for each in violations}


@cache
def empty_registry() -> Session:
    """A registry in which nothing exists: names that a spec refers to are not found, which no case here is about."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    METADATA.create_all(engine)
    return Session(engine)


def of_a_run(field: str, **spec: Any) -> bool:
    """Whether the registry takes a run of that spec, as far as ``field`` goes."""
    given = runs_pb2.RunSpec(base_model="preset://tiny", dataset_id="ds-1", **spec)
    return field not in fields_of(lambda violations: resolve_spec(empty_registry(), given, violations))


def of_an_evaluation(field: str, **request: Any) -> bool:
    given = evaluations_pb2.CreateEvaluationRequest(request_id=REQUEST_ID, model="m", evalset="e", **request)
    return field not in fields_of(lambda violations: evaluation_spec(given))


def of_a_sweep(field: str, **spec: Any) -> bool:
    """Whether search space checks, of registry and tuner, take the settings."""
    given = sweeps_pb2.SweepSpec(**{"objective": {"metric": "loss", "mode": "OBJECTIVE_MODE_MIN"}} | spec)
    space = Space(parameters=(), algorithm="RANDOM", num_samples=1)
    return field not in fields_of(lambda violations: check_settings(given, space, violations))


def trainer_takes_pool(pool: str) -> bool:
    try:
        return TrainerSettings(pool=pool).pool == pool
    except ValidationError:
        return False


def evaluator_takes_threshold(threshold: float) -> bool:
    item = evalsets_pb2.EvalSetItem(id="a", prompt="1+1?", expected_answer="2", answer_type="ANSWER_TYPE_NUMERIC")
    item.section, item.difficulty, item.category = evalsets_pb2.SECTION_CORE, evalsets_pb2.DIFFICULTY_EASY, "sums"
    request = scoring_pb2.ScoreItemsRequest(items=[item], threshold=threshold)
    context: Any = None
    return "threshold" not in fields_of(lambda violations: asyncio.run(ScoringServicer().ScoreItems(request, context)))


def reported_metric(key: str) -> bool:
    report = runs_pb2.ReportMetricsRequest(points=[common_pb2.MetricPoint(key=key, step=1, value=1.0)])
    return not fields_of(lambda violations: read_points(report, datetime.now(UTC), violations))


def metric_of_an_item(name: str) -> bool:
    result = evaluations_pb2.ItemResult(item_id="a", outcome=evaluations_pb2.ITEM_OUTCOME_SKIPPED, metrics={name: 0.5})
    request = evaluations_pb2.RecordItemsRequest(results=[result])
    return f"results[0].metrics.{name}" not in fields_of(lambda violations: recorded(request))


def digest_of_a_leaderboard(text: str) -> bool:
    request = evaluations_pb2.GetLeaderboardRequest(evalset="e", generation_digest=text)
    return "generation_digest" not in fields_of(lambda violations: leaderboard_order(request))


def digest_of_an_adapter(text: str) -> bool:
    request = inference_pb2.LoadAdapterRequest(model="m", reference="file:///a", expected_digest=text)
    return not list(check_load_adapter(request))


def digest_of_an_artifact(text: str) -> bool:
    try:
        return hex_of(text) == text.removeprefix("sha256:")
    except InvalidArtifact:
        return False


def inferencer_takes_format(weight_format: str) -> bool:
    config = common_pb2.GenerationConfig(weight_format=weight_format)
    found = check_request(inference_pb2.GenerateRequest(model="m", config=config))
    return "config.weight_format" not in {each.field for each in found}


def registry_takes_id(value: str) -> bool:
    return not fields_of(lambda violations: checked_id(value, "id"))


def registry_reads_id(value: str) -> bool:
    return not fields_of(lambda violations: check_id(violations, value, "id"))


def registry_takes_display_name(name: str) -> bool:
    return not fields_of(lambda violations: check_labels(violations, name, {}))


def registry_takes_worker(name: str) -> bool:
    return not fields_of(lambda violations: check_claim(jobs_pb2.ClaimRequest(job_id="run-1", worker_id=name)))


def registry_takes_stage(name: str) -> bool:
    return not fields_of(lambda violations: read_progress(common_pb2.Progress(stage=name), violations))


def message_of_an_item(text: str) -> bool:
    result = evaluations_pb2.ItemResult(item_id="a", outcome=evaluations_pb2.ITEM_OUTCOME_SKIPPED, message=text)
    request = evaluations_pb2.RecordItemsRequest(results=[result])
    return "results[0].message" not in fields_of(lambda violations: recorded(request))


def message_of_a_release(text: str) -> bool:
    return "message" not in fields_of(lambda violations: read_release(jobs_pb2.ReleaseRequest(message=text)))


def message_of_a_cancellation(text: str) -> bool:
    run, evaluation = runs_pb2.CancelRunRequest(message=text), evaluations_pb2.CancelEvaluationRequest(message=text)
    found = (
        fields_of(lambda violations: cancel_reason(run)),
        fields_of(lambda violations: evaluation_cancelled(evaluation)),
    )
    assert ("message" in found[0]) == ("message" in found[1])
    return "message" not in found[0]


def registry_takes_name(value: str) -> bool:
    return not fields_of(lambda violations: check_name(violations, value, "name"))


def registry_takes_tags(tags: dict[str, str]) -> bool:
    return not fields_of(lambda violations: check_tags(violations, tags))


def cast_of(rule: Rule) -> Side:
    return lambda value: rule.problem(value) is None


def matches(pattern: re.Pattern[str]) -> Side:
    return lambda value: pattern.fullmatch(value) is not None


METRIC = Cases(
    ("a", "loss", "A/b.c-d_e", "x" * 128),
    ("x" * 129, "a b", "é", "a\0"),
    (
        matches(scores.METRIC_KEY),
        reported_metric,
        metric_of_an_item,
        lambda key: of_a_sweep("objective.metric", objective={"metric": key, "mode": "OBJECTIVE_MODE_MIN"}),
    ),
)
# The rule's name → its cases.
TABLE: dict[str, Cases] = {
    "MAX_ID": Cases(
        ("a", "x" * identifiers.MAX_ID),
        ("", "x" * (identifiers.MAX_ID + 1), "a\0"),
        (registry_takes_id, registry_reads_id),
    ),
    "MAX_DISPLAY_NAME": Cases(
        ("a", "x" * identifiers.MAX_DISPLAY_NAME),
        ("x" * (identifiers.MAX_DISPLAY_NAME + 1), "a\0"),
        (registry_takes_display_name, registry_takes_worker, registry_takes_stage),
    ),
    "MAX_MESSAGE": Cases(
        ("", "x" * identifiers.MAX_MESSAGE),
        ("x" * (identifiers.MAX_MESSAGE + 1),),
        (message_of_an_item, message_of_a_release, message_of_a_cancellation),
    ),
    "NAME": Cases(
        ("a", "0", "a.b_c-d", "x" * 64),
        ("", "x" * 65, "A", "-a", ".a", "a b", "a/b", "a\n"),
        (
            matches(identifiers.NAME),
            registry_takes_name,
            lambda name: bool(name) and of_a_run("model_name", model_name=name),  # empty: the default
        ),
    ),
    "TAG_NAME": Cases(
        ("a", "A", "0", "a/b.c_d-e", "x" * 63),
        ("", "x" * 64, "-a", "/a", "a b", "a\n"),
        (matches(identifiers.TAG_NAME), lambda name: registry_takes_tags({name: ""})),
    ),
    "MAX_TAGS": Cases(
        (0, 1, identifiers.MAX_TAGS),
        (identifiers.MAX_TAGS + 1,),
        (lambda count: registry_takes_tags({f"t{index}": "" for index in range(count)}),),
    ),
    "MAX_TAG_VALUE": Cases(
        (0, 1, identifiers.MAX_TAG_VALUE),
        (identifiers.MAX_TAG_VALUE + 1,),
        (lambda length: registry_takes_tags({"t": "x" * length}),),
    ),
    "POOL": Cases(
        ("cpu", "a", "0", "a-1", "x" * 32, identifiers.DEFAULT_POOL),
        ("A", "-a", "a.b", "a b", "x" * 33, "cpu\n"),
        (
            matches(identifiers.POOL),
            trainer_takes_pool,
            lambda pool: of_a_run("pool", pool=pool),
            lambda pool: of_a_sweep("pools[0]", pools=[pool]),
        ),
    ),
    "METRIC_KEY": METRIC,
    "THRESHOLD": Cases(
        (0.0, TINY, 0.5, 1.0),
        (-TINY, ABOVE_1, *NOT_FINITE),
        (
            cast_of(scores.THRESHOLD),
            lambda value: of_an_evaluation("threshold", threshold=value),
            lambda value: of_a_run("evaluate_on[0].threshold", evaluate_on=[{"evalset": "e", "threshold": value}]),
            evaluator_takes_threshold,
        ),
    ),
    "SAMPLES_PER_ITEM": Cases(
        (1, 2, 63, 64),
        (-1, 65),
        (cast_of(scores.SAMPLES_PER_ITEM), lambda value: of_an_evaluation("samples_per_item", samples_per_item=value)),
    ),
    "is_digest": Cases(
        (f"sha256:{HEX}",),
        (HEX, f"sha256:{HEX[1:]}", f"sha256:{HEX}0", f"sha256:{HEX.upper()}", f"sha512:{HEX}", f"sha256:{HEX[1:]}g"),
        (digests.is_digest, digest_of_a_leaderboard, digest_of_an_adapter, digest_of_an_artifact),
    ),
    "WEIGHT_FORMATS": Cases(
        weight_formats.WEIGHT_FORMATS,
        ("int8", "INT8-V1", "float32", "int8-v1 "),
        (
            inferencer_takes_format,
            lambda name: of_an_evaluation("generation.weight_format", generation={"weight_format": name}),
        ),
    ),
}
# Not rules, or parts of rules that `test_agreement` and `TABLE` cover: limits that a rule's interval holds, defaults,
# and names of values.
NO_RULES = {
    "ADAFACTOR",
    "ADAMW",
    "ADAMW_8BIT",
    "ALL_LINEAR",
    "CONTROL_TOKENS_HELP",
    "DEFAULT_MAX_STEPS",
    "DEFAULT_POOL",
    "DEFAULT_THRESHOLD",
    "DIGEST_PREFIX",
    "DTYPE",
    "DURATIONS",
    "EXPORT_DTYPES",
    "HELD_OUT_LOSS",
    "INT8_V1",
    "MAX_NEW_TOKENS",
    "MAX_STOP_CHARACTERS",
    "MAX_STOP_STRINGS",
    "MAX_STOP_TOKEN_IDS",
    "MAX_SYSTEM_PROMPT",
    "MUON",
    "OPTIMIZERS",
    "PRIMARY_SCORE",
    "PROMPT_VERSION",
    "SCHEDULES",
    "TEMPLATE_RULE",
    "WARMUP_STABLE_DECAY",
    "WITH_FLOOR",
}
IN_TEST_AGREEMENT = {"FLAT_RULES", "GENERATION_RULES", "LORA_RULES", "MESH_RULES", "RULES"}


def test_every_rule_of_the_table_has_cases() -> None:
    modules = (digests, generation, hyperparameters, identifiers, scores, weight_formats)
    constants = {name for module in modules for name in vars(module) if name.isupper() and not name.startswith("_")}
    assert constants - NO_RULES - IN_TEST_AGREEMENT == set(TABLE) - {"is_digest"}


@pytest.mark.parametrize("name", TABLE)
def test_everyone_gives_the_same_verdict(name: str) -> None:
    cases = TABLE[name]
    for expected, values in ((True, cases.accepted), (False, cases.refused)):
        for value in values:
            assert [side(value) for side in cases.sides] == [expected] * len(cases.sides), value


def test_every_default_threshold_is_that_of_the_table() -> None:
    request = evaluations_pb2.CreateEvaluationRequest(request_id=REQUEST_ID, model="m", evalset="e")
    spec = resolve_spec(
        empty_registry(),
        runs_pb2.RunSpec(base_model="preset://tiny", dataset_id="ds-1", evaluate_on=[{"evalset": "e"}]),
        Violations(),
    )
    assert evaluation_spec(request).threshold == spec.evaluate_on[0].threshold == scores.DEFAULT_THRESHOLD
    assert evaluation_spec(request).samples_per_item == scores.SAMPLES_PER_ITEM.default
    assert spec.pool == TrainerSettings().pool == identifiers.DEFAULT_POOL


@pytest.mark.parametrize("reason", common_pb2.Reason.values())
def test_runs_and_evaluations_are_cancelled_for_the_same_reasons(reason: Any) -> None:
    run = runs_pb2.CancelRunRequest(request_id=REQUEST_ID, id="run-1", reason=reason)
    evaluation = evaluations_pb2.CancelEvaluationRequest(request_id=REQUEST_ID, id="eval-1", reason=reason)
    refused = fields_of(lambda violations: cancel_reason(run))
    assert refused == fields_of(lambda violations: evaluation_cancelled(evaluation))
    assert (not refused) == (common_pb2.Reason.Name(reason) in CANCEL_REASONS)


CANCEL_REASONS = {
    "REASON_UNSPECIFIED",
    "REASON_USER_CANCELLED",
    "REASON_EARLY_STOPPED",
    "REASON_PARENT_CANCELLED",
}
