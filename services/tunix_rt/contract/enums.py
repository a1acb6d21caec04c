"""The enums of the contracts by name: ``JobState.SUCCEEDED`` is ``JOB_STATE_SUCCEEDED``, and equals ``"SUCCEEDED"``.

Names are those of `tunix_rt.v1` without their prefix, as JSON, tables and evidence write them.
"""

from __future__ import annotations

from enum import StrEnum, auto
from typing import Any


class Named(StrEnum):
    """Base of all: a member's value is its name; only UNSPECIFIED is false."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[Any]) -> str:
        return name

    def __bool__(self) -> bool:
        return self.value != "UNSPECIFIED"

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class JobState(Named):
    """Of runs, evaluations, sweeps and trials."""

    UNSPECIFIED = auto()
    QUEUED = auto()
    RUNNING = auto()
    CANCELLING = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    CANCELLED = auto()

    @property
    def is_terminal(self) -> bool:
        """Whether a job never leaves this state by itself."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Reason(Named):
    """Why a job is in its state."""

    UNSPECIFIED = auto()
    USER_CANCELLED = auto()
    WORKER_LOST = auto()
    DIVERGED = auto()
    OUT_OF_MEMORY = auto()
    INVALID_ARTIFACT = auto()
    DEADLINE = auto()
    EARLY_STOPPED = auto()
    INVALID_SPEC = auto()
    INTERNAL = auto()
    PARENT_CANCELLED = auto()
    UNDELIVERABLE = auto()
    NO_TRIAL_SUCCEEDED = auto()
    RESULT_REFUSED = auto()
    QUEUE_DEADLINE = auto()
    RETRIED = auto()


class JobKind(Named):
    """What workers carry out."""

    UNSPECIFIED = auto()
    RUN = auto()
    EVALUATION = auto()
    SWEEP = auto()


class AttemptOutcome(Named):
    """How an attempt ended. LOST: its lease ran out. RELEASED: its worker handed the job back."""

    UNSPECIFIED = auto()
    RUNNING = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    CANCELLED = auto()
    LOST = auto()
    RELEASED = auto()


class LogLevel(Named):
    UNSPECIFIED = auto()
    DEBUG = auto()
    INFO = auto()
    WARNING = auto()
    ERROR = auto()


class Section(Named):
    """Of an evalset's item."""

    UNSPECIFIED = auto()
    CORE = auto()
    TRACE_SENSITIVE = auto()
    EDGE_CASE = auto()


class Difficulty(Named):
    UNSPECIFIED = auto()
    EASY = auto()
    MEDIUM = auto()
    HARD = auto()


class AnswerType(Named):
    UNSPECIFIED = auto()
    TEXT = auto()
    NUMERIC = auto()
    CHOICE = auto()
    SET = auto()
    REGEX = auto()
    MATH = auto()
    DATE = auto()
    TIME = auto()
    BOOLEAN = auto()
    CHOICES = auto()


class ItemOutcome(Named):
    """SKIPPED: the item has no usable reference. ERRORED: infrastructure failed, neither wrong nor right."""

    UNSPECIFIED = auto()
    SCORED = auto()
    SKIPPED = auto()
    ERRORED = auto()


class Verdict(Named):
    """Of a scorecard against its threshold."""

    UNSPECIFIED = auto()
    PASS = auto()
    FAIL = auto()
    UNCERTAIN = auto()
    INVALID = auto()


class ItemChange(Named):
    """Of an item between two evaluations. UNPAIRED: not scored in one of them."""

    UNSPECIFIED = auto()
    REGRESSION = auto()
    FIX = auto()
    SAME = auto()
    UNPAIRED = auto()


class ModelFormat(Named):
    UNSPECIFIED = auto()
    HUGGING_FACE = auto()
    PEFT_ADAPTER = auto()
    REFERENCE = auto()


class MetricDirection(Named):
    UNSPECIFIED = auto()
    HIGHER_IS_BETTER = auto()
    LOWER_IS_BETTER = auto()


class SliceTier(Named):
    """CRITICAL slices can fail a gate; ADVISORY ones are reported only."""

    UNSPECIFIED = auto()
    CRITICAL = auto()
    ADVISORY = auto()


class GateVerdict(Named):
    UNSPECIFIED = auto()
    PASS = auto()
    FAIL = auto()
    INCONCLUSIVE = auto()
    INVALID = auto()


class SearchAlgorithm(Named):
    UNSPECIFIED = auto()
    RANDOM = auto()
    GRID = auto()
    TPE = auto()


class TrialScheduler(Named):
    UNSPECIFIED = auto()
    FIFO = auto()
    ASHA = auto()
    MEDIAN_STOPPING = auto()
    PBT = auto()


class ObjectiveMode(Named):
    UNSPECIFIED = auto()
    MAX = auto()
    MIN = auto()


class FinishReason(Named):
    """Why a generated answer ended: STOP at its end or a stop text, LENGTH at a limit of tokens."""

    UNSPECIFIED = auto()
    STOP = auto()
    LENGTH = auto()
    CANCELLED = auto()


class PrincipalKind(Named):
    UNSPECIFIED = auto()
    USER = auto()
    SERVICE = auto()


class Role(Named):
    """What a principal is; roles add up."""

    UNSPECIFIED = auto()
    VIEWER = auto()
    EDITOR = auto()
    APPROVER = auto()
    ADMIN = auto()
    WORKER = auto()
    TRAINER = auto()
    EVALUATOR = auto()
    TUNER = auto()
    INFERENCER = auto()


class Permission(Named):
    """What a call needs."""

    UNSPECIFIED = auto()
    READ = auto()
    GENERATE = auto()
    EDIT = auto()
    LOAD = auto()
    APPROVE = auto()
    ADMINISTER = auto()
    WORK = auto()
    TRAIN = auto()
    EVALUATE = auto()
    TUNE = auto()
    INTROSPECT = auto()
    IDENTIFY = auto()
