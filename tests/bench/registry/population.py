"""What both engines are filled with: every run is computed from its number, so that equal filters find equal runs."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

METRICS = ("eval_loss", "grad_norm", "learning_rate", "loss", "tokens_per_second")
STEPS = tuple(range(5, 101, 5))
EVALSETS = ("quiz-0", "quiz-1", "quiz-2", "quiz-3")
ITEMS = 100
BASE_MODELS = tuple(f"hf://models/base-{number:02d}" for number in range(12))
DATASETS = 20
POOLS = ("cpu", "gpu-h100", "tpu-v5e-8")
STATES = ("SUCCEEDED", "FAILED", "CANCELLED")
TEAMS, PROJECTS, OWNERS = 50, 200, 20
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_SPAN = timedelta(days=180)


@dataclass(frozen=True)
class Size:
    """How much: runs with 100 metric points each, and evaluations of 100 items."""

    runs: int
    evaluations: int

    @staticmethod
    def scaled(scale: float) -> Size:
        """100,000 runs and 10,000 evaluations at 1."""
        return Size(max(200, round(100_000 * scale)), max(40, round(10_000 * scale)))

    @property
    def points(self) -> int:
        return self.runs * len(METRICS) * len(STEPS)

    @property
    def every(self) -> int:
        """One in so many runs is evaluated."""
        return self.runs // self.evaluations


@dataclass(frozen=True)
class PlannedRun:
    """What a run is called, how it ended, and what can be asked of it; ``dataset`` counts from 0."""

    number: int
    name: str
    state: str
    base_model: str
    dataset: int
    pool: str
    learning_rate: float
    seed: int
    created: datetime
    # "quiz-0"…, or "" for one that is not evaluated.
    evalset: str
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> datetime:
        return self.created + timedelta(minutes=15)

    def points(self) -> Iterator[tuple[str, int, float, datetime]]:
        """(metric, step, value, time), by metric and step."""
        start = 1.5 + (self.number % 997) / 500
        for metric in METRICS:
            for step in STEPS:
                value = start * math.exp(-step / 60) if "loss" in metric else start / step
                yield metric, step, value, self.created + timedelta(seconds=60 + step)


def planned_runs(size: Size) -> Iterator[PlannedRun]:
    """Every run, oldest first. A run that is evaluated has SUCCEEDED; of the others 8 % FAILED, 2 % were CANCELLED."""
    source = random.Random(20260101)
    for number in range(size.runs):
        # Most evaluations are of one evalset, as in life.
        evaluated = number % size.every == 0 and number // size.every < size.evaluations
        evalset = source.choices(EVALSETS, (4, 3, 2, 1))[0] if evaluated else ""
        state = "SUCCEEDED" if evalset else source.choices(STATES, (90, 8, 2))[0]
        yield PlannedRun(
            number=number,
            name=f"sft-{source.choice(('warm', 'cold', 'long', 'short'))}-{number:06d}",
            state=state,
            base_model=source.choice(BASE_MODELS),
            dataset=source.randrange(DATASETS),
            pool=source.choices(POOLS, (5, 3, 2))[0],
            learning_rate=source.choice((1e-5, 3e-5, 1e-4, 3e-4)),
            seed=source.randrange(10_000),
            created=created_at(size, number),
            evalset=evalset,
            tags={
                "team": f"team-{source.randrange(TEAMS):02d}",
                "project": f"project-{source.randrange(PROJECTS):03d}",
                "owner": f"owner-{source.randrange(OWNERS):02d}",
                "ticket": f"T-{number:06d}",
            },
        )


def created_at(size: Size, number: int) -> datetime:
    """When a run was created: evenly over half a year."""
    return _BEGIN + _SPAN * (number / size.runs)
