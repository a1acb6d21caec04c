"""The kinds of jobs that workers claim, by the prefix of their ids. A new kind is one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tunix_rt.errors import NotFound
from tunix_rt.registry.evaluations.attempts import EVALUATION
from tunix_rt.registry.jobs.kind import JobKind
from tunix_rt.registry.runs.attempts import RUN
from tunix_rt.registry.sweeps.attempts import SWEEP

KINDS: Final[Mapping[str, JobKind[Any]]] = {
    "run": RUN,
    "eval": EVALUATION,
    "sweep": SWEEP,
}


def kind_of(job_id: str) -> JobKind[Any]:
    """The kind of a job. Raises `NotFound` for what is no id of a job."""
    kind = KINDS.get(job_id.partition("-")[0])
    if kind is None:
        raise NotFound(f"there is no {', '.join(kind.name for kind in KINDS.values())} {job_id!r}")
    return kind
