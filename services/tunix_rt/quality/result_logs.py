"""Results in the log formats of other tools: samples of lm-eval (JSONL) and logs of inspect (JSON, version 2).

lm-eval 0.4: ``EvaluationTracker.save_results_samples``. inspect: https://inspect.aisi.org.uk/eval-logs.html.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunix_rt.contract.digests import canonical_json
from tunix_rt.quality.finish_reasons import is_truncation
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.scorers import PRIMARY_METRIC

FORMATS = ("lm-eval", "inspect")


@dataclass(frozen=True)
class Result:
    """One sample's result. ``prediction`` None: generation failed, and ``message`` says why."""

    item: EvalItem
    sample_index: int
    prediction: str | None
    outcome: str
    metrics: Mapping[str, float]
    extracted_answer: str = ""
    message: str = ""
    finish_reason: str = ""


@dataclass(frozen=True)
class Origin:
    """Where results come from. Times are RFC 3339; ``settings`` are of the generation."""

    id: str
    task: str
    model: str
    created: str
    started: str
    completed: str
    scorer_version: str
    evalset_digest: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def log_lines(results: Sequence[Result], origin: Origin, log_format: str) -> Iterator[str]:
    """The lines of a log in ``log_format``, one of `FORMATS`, each with its newline."""
    if log_format == "lm-eval":
        return (canonical_json(sample) + "\n" for sample in lm_eval_samples(results))
    return iter([canonical_json(inspect_log(results, origin)) + "\n"])


def lm_eval_samples(results: Iterable[Result]) -> Iterator[dict[str, Any]]:
    """A document for each item, with all of its samples in ``resps``; metrics are means over the scored samples."""
    by_item: dict[str, list[Result]] = {}
    for result in results:
        by_item.setdefault(result.item.id, []).append(result)
    for samples in by_item.values():
        item = samples[0].item
        scored = [sample for sample in samples if sample.outcome == Outcome.SCORED]
        names = sorted({name for sample in scored for name in sample.metrics})
        means = {name: _mean([s.metrics[name] for s in scored if name in s.metrics]) for name in names}
        yield {
            "doc_id": item.index,
            "doc": item.to_dict(),
            "target": item.expected_answer,
            "arguments": {"gen_args_0": {"arg_0": item.prompt, "arg_1": {}}},
            "resps": [[sample.prediction for sample in samples]],
            "filtered_resps": [sample.extracted_answer for sample in samples],
            "filter": "tunix-rt",
            "metrics": names,
            "doc_hash": _sha256(json.dumps(item.to_dict(), indent=2, ensure_ascii=False)),
            "prompt_hash": _sha256(item.prompt),
            "target_hash": _sha256(item.expected_answer),
            **means,
        }


def inspect_log(results: Sequence[Result], origin: Origin) -> dict[str, Any]:
    """The whole log. Samples of an item are its epochs."""
    scored = [result for result in results if result.outcome == Outcome.SCORED]
    epochs = max((result.sample_index for result in results), default=0) + 1
    items = {result.item.id: None for result in results}
    names = sorted({name for result in scored for name in result.metrics})
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "run_id": origin.id,
            "created": origin.created,
            "task": origin.task,
            "task_id": origin.id,
            "task_version": 0,
            "task_attribs": {},
            "task_args": {},
            "dataset": {"name": origin.task, "samples": len(items), "sample_ids": list(items), "shuffled": False},
            "model": origin.model,
            "model_args": {},
            "config": {"epochs": epochs},
            "packages": {},
            "metadata": {"scorer_version": origin.scorer_version, "evalset_digest": origin.evalset_digest},
        },
        "plan": {"name": "plan", "steps": [], "config": _known_settings(origin.settings)},
        "results": {
            "total_samples": len(results),
            "completed_samples": sum(result.outcome != Outcome.ERRORED for result in results),
            "scores": [_score(name, [s.metrics[name] for s in scored if name in s.metrics]) for name in names],
        },
        "stats": {"started_at": origin.started, "completed_at": origin.completed, "model_usage": {}},
        "samples": [_sample(result, origin.model) for result in results],
    }


def _score(name: str, values: list[float]) -> dict[str, Any]:
    metric = "accuracy" if name == PRIMARY_METRIC else "mean"
    found = {metric: {"name": metric, "value": _mean(values), "params": {}}}
    return {"name": name, "scorer": "tunix-rt", "params": {}, "metrics": found}


def _sample(result: Result, model: str) -> dict[str, Any]:
    item = result.item
    asked = {"role": "user", "content": item.prompt, "source": "input"}
    sample: dict[str, Any] = {
        "id": item.id,
        "epoch": result.sample_index + 1,
        "input": item.prompt,
        "target": [item.expected_answer, *item.aliases] if item.aliases else item.expected_answer,
        "metadata": {"section": item.section, "category": item.category, "difficulty": item.difficulty},
        "store": {},
        "events": [],
    }
    if result.prediction is None:
        error = {"message": result.message or "no prediction", "traceback": "", "traceback_ansi": ""}
        return sample | {"messages": [asked], "output": {"model": model, "choices": []}, "error": error}
    said = {"role": "assistant", "content": result.prediction, "source": "generate"}
    choices = [{"message": said, "stop_reason": "max_tokens" if is_truncation(result.finish_reason) else "stop"}]
    scores = {
        name: {"value": value, "answer": result.extracted_answer, "explanation": result.message}
        for name, value in sorted(result.metrics.items())
    }
    return sample | {"messages": [asked, said], "output": {"model": model, "choices": choices}, "scores": scores}


def _known_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    names = {"max_new_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}
    return {names[name]: value for name, value in settings.items() if name in names and value is not None}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
