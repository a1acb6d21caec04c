"""The demo's steps, against any platform, through the SDK."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from tunix_rt.cli.commands.baselines import etag_in_force
from tunix_rt.cli.demo.plan import DemoPlan, RunPlan
from tunix_rt.cli.demo.report import Report
from tunix_rt.cli.demo.result import Compared, Decision, DemoResult, Score, Swept, Trained, TrialResult
from tunix_rt.client import Evaluation, Run, Sweep, Trial, TunixClient
from tunix_rt.client.resources.scores import PairedStatistics
from tunix_rt.client.shipped import evalset_path
from tunix_rt.errors import TunixError

BASELINE = "demo"


JobT = TypeVar("JobT", Run, Evaluation, Sweep)


class DemoFailed(TunixError):
    """A job of the demo did not succeed."""


def run_demo(client: TunixClient, plan: DemoPlan, report: Report, *, seed: int = 0) -> DemoResult:
    """Carry the plan out; raises `DemoFailed` when a job ends otherwise than SUCCEEDED."""
    return _Demo(client, plan, report, seed).run()


class _Demo:
    def __init__(self, client: TunixClient, plan: DemoPlan, report: Report, seed: int) -> None:
        self._client = client
        self._plan = plan
        self._report = report
        self._seed = seed

    def run(self) -> DemoResult:
        begun = time.monotonic()
        client, plan, report = self._client, self._plan, self._report

        report.stage("Evalset and dataset")
        evalset_keys = sorted({plan.evalset, plan.sweep.evalset})
        evalsets = {key: client.evalsets.create(evalset_path(key)) for key in evalset_keys}
        dataset = client.datasets.build(
            plan.recipe,
            size=plan.dataset_size,
            seed=self._seed,
            decontaminate=[evalset.id for evalset in evalsets.values()],
        )
        report.dataset(dataset, evalsets[plan.evalset])

        base_evaluation = self._evaluate_base() if plan.evaluate_base else None

        report.stage("Training, and evaluation because the runs ask for it")
        queued = {letter: self._create_run(letter, run, dataset.id) for letter, run in self._runs().items()}
        trained = {letter: self._finish_run(letter, run) for letter, run in queued.items()}
        sweep = self._create_sweep(dataset.id)  # it waits for Ray while B is evaluated
        a, b = (self._with_score(letter, trained[letter]) for letter in ("A", "B"))
        base = self._score("base", base_evaluation) if base_evaluation else None

        report.stage("Scorecards and leaderboard")
        named = {"base": base, "A": a.score, "B": b.score}
        report.scorecards({name: score for name, score in named.items() if score is not None})
        report.leaderboard(client.leaderboard(plan.evalset))

        report.stage("Baseline, gate, comparison")
        etag = etag_in_force(client, BASELINE)
        client.baselines.lock(BASELINE, a.score.evaluation_id, etag=etag, note="the short run")
        b_against_a = self._decide("B", "A", b.score, client.baselines.get(BASELINE).evaluation_id)
        a_against_b = self._decide("A", "B", a.score, b.score.evaluation_id)
        comparison = client.compare(a.score.evaluation_id, b.score.evaluation_id)
        report.comparison(comparison)

        report.stage(f"Sweep: {plan.sweep.trials} trials on Ray Tune")
        swept = self._finish_sweep(sweep)
        report.sweep(swept)

        report.stage("The best model answers")
        answer = client.generate(b.model_id, plan.question, config=dict(plan.generation)).text
        report.answer(plan.question, answer)
        return DemoResult(
            model=plan.model,
            seed=self._seed,
            base=base,
            a=a,
            b=b,
            gate_b_against_a=b_against_a,
            gate_a_against_b=a_against_b,
            comparison=_compared(comparison.candidates[0].statistics),
            sweep=swept,
            question=plan.question,
            answer=answer,
            seconds=time.monotonic() - begun,
        )

    # Runs

    def _runs(self) -> Mapping[str, RunPlan]:
        return {"A": self._plan.short, "B": self._plan.long}

    def _create_run(self, letter: str, run: RunPlan, dataset_id: str) -> Run:
        return self._client.runs.create(
            base_model=self._plan.model,
            dataset_id=dataset_id,
            hyperparameters={**run.hyperparameters, "seed": self._seed},
            evaluate_on=[{"evalset": self._plan.evalset, "generation": dict(self._plan.generation)}],
            model_name="demo",
            display_name=run.name,
            tags={**self._plan.tags, "run": letter},
        )

    def _finish_run(self, letter: str, run: Run) -> Run:
        with self._report.progress(f"training {letter}") as bar:
            ended = self._client.runs.wait(run.id, on_change=bar.run, timeout_seconds=self._plan.timeout_seconds)
        return _succeeded(ended, f"run {letter}")

    def _with_score(self, letter: str, run: Run) -> Trained:
        losses = [point.value for point in self._client.runs.metrics(run.id, keys=["loss"])]
        return Trained(
            run_id=run.id,
            name=run.display_name,
            seconds=_seconds(run.start_time, run.end_time),
            loss_first=losses[0],
            loss_last=losses[-1],
            model_id=run.model_id,
            model_digest=self._client.models.get(run.model_id).artifact.digest,
            score=self._score(letter, run.evaluation_ids[0]),
        )

    # Scores

    def _evaluate_base(self) -> str:
        base = self._client.evaluations.create(
            self._plan.model, self._plan.evalset, generation=dict(self._plan.generation), tags=dict(self._plan.tags)
        )
        return base.id

    def _score(self, name: str, evaluation_id: str) -> Score:
        with self._report.progress(f"evaluating {name}") as bar:
            evaluation = self._client.evaluations.wait(
                evaluation_id, on_change=bar.evaluation, timeout_seconds=self._plan.timeout_seconds
            )
        card = _succeeded(evaluation, f"evaluation of {name}").scorecard
        if card is None or card.primary_score is None or card.ci_low is None or card.ci_high is None:
            raise DemoFailed(f"evaluation of {name} ({evaluation_id}) scored no item")
        items = {
            item.item_id: (item.metrics.get("answer_correctness"), item.prediction)
            for item in self._client.evaluations.items(evaluation_id, page_size=1000)
        }
        return Score(
            evaluation_id=evaluation_id,
            primary_score=card.primary_score,
            ci_low=card.ci_low,
            ci_high=card.ci_high,
            n_scored=card.n_scored,
            n_items=card.n_items,
            coverage=card.coverage,
            metric_means=card.metric_means,
            items=items,
        )

    def _decide(self, candidate: str, baseline: str, score: Score, against: str) -> Decision:
        made = self._client.gate.decide(score.evaluation_id, baseline_evaluation_id=against)
        decision = Decision(
            candidate=candidate,
            baseline=baseline,
            verdict=made.verdict,
            delta=made.statistics.delta,
            lower_bound=made.lower_bound,
            explanation=made.explanation,
        )
        self._report.decision(decision)
        return decision

    # Sweep

    def _create_sweep(self, dataset_id: str) -> Sweep:
        plan = self._plan.sweep
        return self._client.sweeps.create(
            base={
                "base_model": self._plan.model,
                "dataset_id": dataset_id,
                "hyperparameters": {**plan.hyperparameters, "seed": self._seed},
                "evaluate_on": [{"evalset": plan.evalset, "generation": dict(self._plan.generation)}],
                "model_name": "demo-sweep",
            },
            parameters=plan.parameters,
            algorithm="random",
            num_samples=plan.trials,
            max_concurrent_trials=plan.max_concurrent_trials,
            seed=self._seed,
            display_name="demo sweep",
            tags=dict(self._plan.tags),
        )

    def _finish_sweep(self, sweep: Sweep) -> Swept:
        with self._report.progress("sweep") as bar:
            ended = self._client.sweeps.wait(sweep.id, on_change=bar.sweep, timeout_seconds=self._plan.timeout_seconds)
        _succeeded(ended, "the sweep")
        trials = sorted(self._client.sweeps.trials(sweep.id), key=lambda trial: trial.number)
        return Swept(
            sweep_id=sweep.id,
            seconds=_seconds(ended.start_time, ended.end_time),
            trials=[_trial(trial) for trial in trials],
            best=next((trial.number for trial in trials if trial.id == ended.best_trial_id), None),
        )


def _succeeded(job: JobT, name: str) -> JobT:
    if not job.succeeded:
        raise DemoFailed(f"{name} ({job.id}) ended {job.state}, {job.reason}: {job.message}")
    return job


def _seconds(start: datetime | None, end: datetime | None) -> float:
    """Between two times of a job that has ended."""
    assert start is not None, "a job that ended was started"
    assert end is not None, "a job that ended has an end"
    return (end - start).total_seconds()


def _trial(trial: Trial) -> TrialResult:
    return TrialResult(
        number=trial.number,
        state=trial.state,
        parameters=trial.parameters,
        objective=trial.objective,
    )


def _compared(statistics: PairedStatistics) -> Compared:
    return Compared(
        delta=statistics.delta,
        ci_low=statistics.ci_low,
        ci_high=statistics.ci_high,
        p_value=statistics.p_value,
        regressions=statistics.n_regressions,
        fixes=statistics.n_fixes,
        same=statistics.n_same,
    )
