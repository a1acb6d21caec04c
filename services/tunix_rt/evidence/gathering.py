"""Reads from a platform, through the client, all that evidence of one evaluation is made of. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tunix_rt.contract.generation import complete_generation
from tunix_rt.errors import FailedPrecondition, InvalidArtifact, NotFound
from tunix_rt.evidence.documents import Document
from tunix_rt.evidence.facts import Facts, GateFacts, SweepFacts, TrainingFacts
from tunix_rt.evidence.messages import json_value, plain
from tunix_rt.evidence.regeneration import Generate
from tunix_rt.evidence.scoring import lean
from tunix_rt.quality.items import EvalItem, EvalSet, parse_evalset
from tunix_rt.v1 import common_pb2, evalsets_pb2, evaluations_pb2, models_pb2, runs_pb2

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient

OnStage = Callable[[str], object]


def gather(client: TunixClient, evaluation_id: str, *, on_stage: OnStage = lambda stage: None) -> Facts:
    """The facts of a succeeded evaluation and of the run that made its model; ``on_stage`` hears what is being read.

    Raises `NotFound`, `FailedPrecondition` for an evaluation that has not SUCCEEDED, and `InvalidArtifact` when the
    evalset's items do not have its digest.
    """
    on_stage("evaluation")
    evaluation = succeeded(client, evaluation_id)
    evalset = client.evalsets.get(evaluation.evalset_id)
    items = evalset_items(client, evalset).items
    on_stage("predictions")
    samples = [sample_document(result) for result in client.evaluations.items(evaluation_id, page_size=1000)]
    model = client.models.get(evaluation.model_id)
    training = _training(client, evaluation.run_id, on_stage) if evaluation.run_id else None
    on_stage("gate decisions")
    return Facts(
        evaluation=evaluation_document(evaluation),
        evalset=plain(evalset, defaults=True),
        items=items,
        samples=samples,
        model=plain(model, defaults=True),
        training=training,
        gate=_gate(client, evaluation_id),
    )


def succeeded(client: TunixClient, evaluation_id: str) -> evaluations_pb2.Evaluation:
    """The evaluation. Raises `FailedPrecondition` unless it has SUCCEEDED."""
    evaluation = client.evaluations.get(evaluation_id)
    if evaluation.state != common_pb2.JOB_STATE_SUCCEEDED:
        state = plain(evaluation).get("state", "UNSPECIFIED")
        raise FailedPrecondition(f"{evaluation_id} is {state}: only an evaluation that has SUCCEEDED has a score")
    return evaluation


def generator(client: TunixClient, evaluation: evaluations_pb2.Evaluation) -> Generate:
    """Generates answers as the evaluator did: the same model, config, prompt, and seed per sample. Loads the model."""
    model = client.models.get(evaluation.model_id)

    def load() -> str:
        weight_format = evaluation.generation.weight_format
        digest = evaluation.identity.model_digest
        return client.inference.load(model.reference, expected_digest=digest, weight_format=weight_format).handle

    handle = load()

    def generate(item: EvalItem, sample: int) -> str:
        config = common_pb2.GenerationConfig()
        config.CopyFrom(evaluation.generation)
        config.seed += sample
        try:
            return client.inference.generate(handle, item.prompt, config=config).text
        except NotFound:  # the inferencer made room for another model
            return client.inference.generate(load(), item.prompt, config=config).text

    return generate


def evalset_items(client: TunixClient, evalset: evalsets_pb2.EvalSet) -> EvalSet:
    """The evalset's items, which have its digest. Raises `InvalidArtifact` when they have not.

    ``meta`` comes as doubles only, so whole numbers in it are read as integers and, if that is not what the digest
    says, as they come.
    """
    messages = list(client.evalsets.items(evalset.id, page_size=1000))
    for integers in (True, False):
        lines = (json.dumps(_item(message, integers), ensure_ascii=False) for message in messages)
        parsed = parse_evalset("\n".join(lines))
        if parsed.digest == evalset.digest:
            return parsed
    raise InvalidArtifact(
        f"the items of {evalset.id} do not have its digest {evalset.digest}: they changed, or their meta holds whole "
        "numbers written in two ways (1 and 1.0)"
    )


def evaluation_document(evaluation: evaluations_pb2.Evaluation) -> Document:
    """The evaluation with its whole generation config and its scorecard as `scoring.scorecard_document` writes it."""
    document = plain(evaluation, defaults=True)
    card = document["scorecard"]
    return document | {
        "generation": complete_generation(plain(evaluation.generation)),
        "scorecard": lean(card | {"verdict": card["verdict"].lower()}),
    }


def sample_document(result: evaluations_pb2.ItemResult) -> Document:
    """A line of ``predictions.jsonl``."""
    return plain(result, defaults=True)


def _item(message: evalsets_pb2.EvalSetItem, integers: bool) -> Document:
    document = plain(message)
    document.pop("index", None)
    for name in ("section", "difficulty", "answer_type"):
        if name in document:
            document[name] = document[name].lower()
    if "meta" in document:
        document["meta"] = json_value(message.meta, integers=integers)
    return document


def _training(client: TunixClient, run_id: str, on_stage: OnStage) -> TrainingFacts:
    on_stage("run")
    run = client.runs.get(run_id)
    dataset = client.datasets.get(run.spec.dataset_id)
    listed = client.runs.attempts(run_id)
    on_stage("training log")
    metrics = [plain(point, defaults=True) for point in client.runs.metrics(run_id, page_size=1000)]
    logs = [plain(line, defaults=True) for line in client.runs.logs(run_id)]
    if run.sweep_id:
        on_stage("sweep")
    return TrainingFacts(
        run=_run(run),
        dataset=plain(dataset, defaults=True),
        attempts=[_attempt(attempt) for attempt in sorted(listed.attempts, key=lambda attempt: attempt.number)],
        metrics=metrics,
        logs=logs,
        sweep=sweep_facts(client, run.sweep_id) if run.sweep_id else None,
    )


def sweep_facts(client: TunixClient, sweep_id: str) -> SweepFacts:
    """A sweep with its trials, by number, and its results."""
    results = plain(client.sweeps.results(sweep_id), defaults=True)
    trials = [plain(trial, defaults=True) for trial in client.sweeps.trials(sweep_id, page_size=1000)]
    return SweepFacts(sweep=results.pop("sweep"), trials=trials, results=results)


def _run(run: runs_pb2.Run) -> Document:
    # The spec as people write it: only what is set, which is what its digest is of.
    return plain(run, defaults=True) | {"spec": plain(run.spec)}


def _attempt(attempt: runs_pb2.Attempt) -> Document:
    document = plain(attempt, defaults=True)
    return {name: value for name, value in document.items() if name not in ("id", "run_id", "heartbeat_time")}


def _gate(client: TunixClient, evaluation_id: str) -> GateFacts:
    found = list(client.gate.decisions(filter=f'candidate_evaluation_id = "{evaluation_id}"', page_size=1000))
    found.sort(key=lambda decision: (decision.create_time.ToNanoseconds(), decision.id))
    policy_ids = sorted({decision.policy_id for decision in found})
    baseline_ids = sorted({decision.baseline_evaluation_id for decision in found})
    return GateFacts(
        decisions=[_decision(decision) for decision in found],
        policies={policy_id: plain(client.gate.policy(policy_id), defaults=True) for policy_id in policy_ids},
        baselines={baseline_id: _baseline(client, baseline_id) for baseline_id in baseline_ids},
    )


def _decision(decision: models_pb2.GateDecision) -> Document:
    return plain(decision, defaults=True)


def _baseline(client: TunixClient, evaluation_id: str) -> Document:
    evaluation = client.evaluations.get(evaluation_id)
    names = ("item_id", "sample_index", "outcome", "metrics")
    return {
        "model_id": evaluation.model_id,
        "identity": plain(evaluation.identity, defaults=True),
        "samples": _picked(map(sample_document, client.evaluations.items(evaluation_id, page_size=1000)), names),
    }


def _picked(documents: Iterable[Document], names: Iterable[str]) -> list[dict[str, Any]]:
    return [{name: document[name] for name in names} for document in documents]
