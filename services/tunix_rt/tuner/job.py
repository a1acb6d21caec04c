"""What the service tells its child process, and that Ray Tune's: JSON lines over stdin. They answer over stdout."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tunix_rt.tuner.course import Suggestion
from tunix_rt.tuner.plan import Plan
from tunix_rt.tuner.trials import Trial
from tunix_rt.worker.jobs import Lease

EXIT_LEASE_LOST = 3
RAY_STARTED = {"ray": "started"}


@dataclass(frozen=True)
class Job:
    """One attempt at a sweep: the first line. ``directory`` is for Ray's files; it is short, because sockets are made
    under it. ``limit``: trials at once."""

    lease: Lease
    plan: Plan
    limit: int
    directory: str
    ray_address: str | None
    ray_num_cpus: int

    def line(self) -> bytes:
        """One line of JSON."""
        return _line(
            {
                "lease": asdict(self.lease),
                "plan": self.plan.document(),
                "limit": self.limit,
                "directory": self.directory,
                "ray_address": self.ray_address,
                "ray_num_cpus": self.ray_num_cpus,
            }
        )

    @classmethod
    def of_line(cls, line: bytes) -> Job:
        """The inverse of `line`."""
        document = json.loads(line)
        lease = Lease(**document.pop("lease"))
        plan = Plan.of_document(document.pop("plan"))
        return cls(lease=lease, plan=plan, **document)


def trials_line(trials: Iterable[Trial]) -> bytes:
    """The second line for Ray Tune's process: what is stored."""
    return _line({"trials": [trial.document() for trial in trials]})


def trials_of_line(line: bytes) -> list[Trial]:
    """The inverse of `trials_line`."""
    return [Trial.of_document(document) for document in json.loads(line)["trials"]]


def extension_line(num_samples: int) -> bytes:
    """Any later line: the sweep has so many samples now."""
    return _line({"num_samples": num_samples})


def extension_of_line(line: bytes) -> int:
    """The inverse of `extension_line`."""
    return int(json.loads(line)["num_samples"])


def suggestions_line(suggestions: Iterable[Suggestion]) -> str:
    """Ray Tune's first answer: the trials that may begin before Ray does."""
    found = [
        {"number": each.number, "parameters": dict(each.parameters), "observed": list(each.observed)}
        for each in suggestions
    ]
    return json.dumps({"suggestions": found})


def suggestions_of(answer: dict[str, Any]) -> list[Suggestion]:
    """The inverse of `suggestions_line`, of a decoded line."""
    return [Suggestion(each["number"], each["parameters"], tuple(each["observed"])) for each in answer["suggestions"]]


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"
