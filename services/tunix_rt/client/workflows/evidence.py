"""Collects the facts for the evidence of one evaluation and packs them. Read-only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tunix_rt.client.clients import TunixClient
from tunix_rt.client.resources.evalsets import EvalSet
from tunix_rt.client.resources.evaluations import Evaluation
from tunix_rt.client.resources.gates import GateDecision
from tunix_rt.client.resources.jobs import Attempt
from tunix_rt.client.resources.runs import Run
from tunix_rt.contract.documents import document, json_value
from tunix_rt.contract.enums import GateVerdict
from tunix_rt.contract.generation import complete_generation, prompts_problem
from tunix_rt.errors import FailedPrecondition, InvalidArtifact, NotFound
from tunix_rt.evidence.archive import pack
from tunix_rt.evidence.build import files
from tunix_rt.evidence.documents import Document, content_digest
from tunix_rt.evidence.facts import Facts, GateFacts, SweepFacts, TrainingFacts
from tunix_rt.evidence.regeneration import Generate
from tunix_rt.evidence.scoring import lean
from tunix_rt.quality.items import EvalItem, parse_evalset
from tunix_rt.quality.items import EvalSet as ParsedEvalSet
from tunix_rt.v1 import common_pb2, evalsets_pb2

OnStage = Callable[[str], object]


@dataclass(frozen=True)
class Evidence:
    """The zip (``data``), its ``contents`` by file name, and the ``digest`` of these."""

    evaluation_id: str
    contents: Mapping[str, bytes]
    data: bytes
    digest: str


def build_evidence(
    client: TunixClient, evaluation_id: str, *, scorer_version: str = "", on_stage: OnStage = lambda stage: None
) -> Evidence:
    """The evidence of a succeeded evaluation; the same stored state gives the same bytes. Raises as `gather` does."""
    contents = files(gather(client, evaluation_id, scorer_version=scorer_version, on_stage=on_stage))
    return Evidence(evaluation_id, contents, pack(contents), content_digest(contents))


def gather(
    client: TunixClient, evaluation_id: str, *, scorer_version: str = "", on_stage: OnStage = lambda stage: None
) -> Facts:
    """The facts of a succeeded evaluation and of the run that made its model.

    They are of its score by ``scorer_version``, by default of the present one, with the gate decisions on that score.
    ``on_stage`` is called with what is read next.

    Raises `NotFound`, `FailedPrecondition` for an evaluation that has not SUCCEEDED, and `InvalidArtifact` when the
    evalset's items do not have its digest.
    """
    on_stage("evaluation")
    evaluation = succeeded(client, evaluation_id)
    evalset = client.evalsets.get(evaluation.evalset_id)
    items = evalset_items(client, evalset).items
    on_stage("predictions")
    score = _score(client, evaluation, scorer_version)
    version = score["identity"]["scorer_version"]
    results = client.evaluations.items(evaluation_id, scorer_version=version, page_size=1000)
    samples = [result.to_dict() for result in results]
    model = client.models.get(evaluation.model_id)
    training = _training(client, evaluation.run_id, on_stage) if evaluation.run_id else None
    on_stage("gate decisions")
    return Facts(
        evaluation=score,
        evalset=evalset.to_dict(),
        items=items,
        samples=samples,
        model=model.to_dict(),
        training=training,
        signing_keys=_signing_keys(client) if "signature" in score else {},
        gate=_gate(client, evaluation_id, version),
    )


def _score(client: TunixClient, evaluation: Evaluation, scorer_version: str) -> Document:
    """The evaluation's document with its score of that version. Raises `NotFound` where there is none."""
    whole = evaluation_document(evaluation)
    if scorer_version in ("", evaluation.identity.scorer_version):
        return whole
    for past in client.evaluations.past_scores(evaluation.id):
        if past.identity.scorer_version == scorer_version:
            for name in ("signature", "score_time"):
                whole.pop(name, None)
            former = past.to_dict()
            if past.score_time == evaluation.end_time:  # the one that it ended with
                del former["score_time"]
            former["scorecard"] = lean(former["scorecard"])
            return whole | {name: former[name] for name in former.keys() - {"replace_time", "replaced_by"}}
    raise NotFound(f"{evaluation.id} has no score of {scorer_version!r}")


def succeeded(client: TunixClient, evaluation_id: str) -> Evaluation:
    """The evaluation. Raises `FailedPrecondition` unless it has SUCCEEDED."""
    evaluation = client.evaluations.get(evaluation_id)
    if not evaluation.succeeded:
        raise FailedPrecondition(
            f"{evaluation_id} is {evaluation.state}: only an evaluation that has SUCCEEDED has a score"
        )
    return evaluation


def generator(client: TunixClient, evaluation: Evaluation) -> Generate:
    """Generates answers as the evaluator did: the same model, config, prompt, and seed per sample. Loads the model.

    Raises `FailedPrecondition` for an evaluation whose prompts this release does not make.
    """
    problem = prompts_problem(evaluation.generation.prompt_version)
    if problem is not None:
        raise FailedPrecondition(f"{evaluation.id} cannot be generated again: {problem}")
    model = client.models.get(evaluation.model_id)

    def load() -> str:
        weight_format = evaluation.generation.weight_format or ""
        digest = evaluation.identity.model_digest
        return client.inference.load(model.reference, expected_digest=digest, weight_format=weight_format).handle

    handle = load()

    def generate(item: EvalItem, sample: int) -> tuple[str, str]:
        config = common_pb2.GenerationConfig()
        config.CopyFrom(evaluation.generation.proto)
        config.seed += sample
        try:
            made = client.inference.generate(handle, item.prompt, config=config)
        except NotFound:  # the inferencer made room for another model
            made = client.inference.generate(load(), item.prompt, config=config)
        return made.text, made.finish_reason

    return generate


def evalset_items(client: TunixClient, evalset: EvalSet) -> ParsedEvalSet:
    """The evalset's items, which have its digest. Raises `InvalidArtifact` when they have not.

    ``meta`` comes as doubles only, so whole numbers in it are read as integers and, if that is not what the digest
    says, as they come.
    """
    messages = [item.proto for item in client.evalsets.items(evalset.id, page_size=1000)]
    for integers in (True, False):
        lines = (json.dumps(_item(message, integers), ensure_ascii=False) for message in messages)
        parsed = parse_evalset("\n".join(lines))
        if parsed.digest == evalset.digest:
            return parsed
    raise InvalidArtifact(
        f"the items of {evalset.id} do not have its digest {evalset.digest}: they changed, or their meta holds whole "
        "numbers written in two ways (1 and 1.0)"
    )


def evaluation_document(evaluation: Evaluation) -> Document:
    """The evaluation with its whole generation config and its scorecard as `scoring.scorecard_document` writes it."""
    whole = evaluation.to_dict()
    return whole | {
        "generation": complete_generation(document(evaluation.generation.proto)),
        "scorecard": lean(whole["scorecard"]),
    }


def _item(message: evalsets_pb2.EvalSetItem, integers: bool) -> Document:
    item = document(message)
    item.pop("index", None)
    for name in ("section", "difficulty", "answer_type"):
        if name in item:
            item[name] = item[name].lower()
    if "meta" in item:
        item["meta"] = json_value(message.meta, integers=integers)
    return item


def _training(client: TunixClient, run_id: str, on_stage: OnStage) -> TrainingFacts:
    on_stage("run")
    run = client.runs.get(run_id)
    dataset = client.datasets.get(run.spec.dataset_id)
    attempts = [_attempt(attempt) for attempt in client.runs.attempts(run_id, page_size=1000)]
    on_stage("training log")
    metrics = [point.to_dict() for point in client.runs.metrics(run_id, page_size=1000)]
    logs = [line.to_dict() for line in client.runs.logs(run_id)]
    if run.sweep_id:
        on_stage("sweep")
    return TrainingFacts(
        run=_run(run),
        dataset=dataset.to_dict(),
        attempts=attempts,
        metrics=metrics,
        logs=logs,
        sweep=sweep_facts(client, run.sweep_id) if run.sweep_id else None,
    )


def sweep_facts(client: TunixClient, sweep_id: str) -> SweepFacts:
    """A sweep with its trials, by number, and its results."""
    results = client.sweeps.results(sweep_id).to_dict()
    trials = [trial.to_dict() for trial in client.sweeps.trials(sweep_id, page_size=1000)]
    return SweepFacts(sweep=results.pop("sweep"), trials=trials, results=results)


def _run(run: Run) -> Document:
    # The spec as people write it: only what is set, which is what its digest is of.
    return run.to_dict() | {"spec": document(run.spec.proto)}


def _attempt(attempt: Attempt) -> Document:
    found = attempt.to_dict()
    return {name: value for name, value in found.items() if name not in ("id", "job_id", "heartbeat_time")}


def _signing_keys(client: TunixClient) -> dict[str, str]:
    return {key.id: key.public_key for key in client.models.signing_keys()}


def _gate(client: TunixClient, evaluation_id: str, scorer_version: str) -> GateFacts:
    """Decisions on the score of that version."""
    of_all = client.gate.decisions(filter=f'candidate_evaluation_id = "{evaluation_id}"', page_size=1000)
    found = [decision for decision in of_all if decision.scorer_version == scorer_version]
    found.sort(key=lambda decision: (decision.proto.create_time.ToNanoseconds(), decision.id))
    policy_ids = sorted({decision.policy_id for decision in found})
    baseline_ids = sorted({decision.baseline_evaluation_id for decision in found})
    baselines = {baseline_id: _baseline(client, baseline_id, scorer_version) for baseline_id in baseline_ids}
    found = [decision for decision in found if not _is_outdated(decision, baselines, scorer_version)]
    return GateFacts(
        decisions=[
            {name: value for name, value in decision.to_dict().items() if name != "scorer_version"}
            for decision in found
        ],
        policies={policy_id: client.gate.policy(policy_id).to_dict() for policy_id in policy_ids},
        baselines=baselines,
    )


def _is_outdated(decision: GateDecision, baselines: Mapping[str, Document], scorer_version: str) -> bool:
    """Whether it is INVALID because of the baseline's scorer version, and the baseline has been scored again since."""
    holder = baselines[decision.baseline_evaluation_id]["identity"]["scorer_version"]
    return (
        decision.verdict is GateVerdict.INVALID
        and "scorer_version" in decision.explanation
        and (holder == scorer_version)
    )


def _baseline(client: TunixClient, evaluation_id: str, scorer_version: str) -> Document:
    """The scores of that version; where there are none, the present ones, with which the decision is INVALID."""
    evaluation = client.evaluations.get(evaluation_id)
    names = ("item_id", "sample_index", "outcome", "metrics")
    versions = {past.identity.scorer_version for past in evaluation.past_scores()}
    version = scorer_version if scorer_version in versions else evaluation.identity.scorer_version
    results = client.evaluations.items(evaluation_id, scorer_version=version, page_size=1000)
    return {
        "model_id": evaluation.model_id,
        "identity": evaluation.identity.to_dict() | {"scorer_version": version},
        "samples": [_picked(result.to_dict(), names) for result in results],
    }


def _picked(found: Document, names: Iterable[str]) -> Document:
    return {name: found[name] for name in names}
