"""What the service tells its child process, and hears from it: JSON lines over stdin and stdout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from tunix_rt.search_space.space import Space
from tunix_rt.tuner.trials import Lease

EXIT_LEASE_LOST = 3
RAY_STARTED = {"ray": "started"}


@dataclass(frozen=True)
class Job:
    """One attempt at a sweep. ``directory`` is for Ray's files; it is short, because sockets are made under it."""

    lease: Lease
    space: Space
    seed: int
    mode: Literal["max", "min"]
    max_concurrent: int
    directory: str
    ray_address: str | None
    ray_num_cpus: int

    def line(self) -> bytes:
        """One line of JSON."""
        document = {
            "lease": self.lease.document(),
            "space": self.space.document(),
            "seed": self.seed,
            "mode": self.mode,
            "max_concurrent": self.max_concurrent,
            "directory": self.directory,
            "ray_address": self.ray_address,
            "ray_num_cpus": self.ray_num_cpus,
        }
        return json.dumps(document).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Job:
        """The inverse of `line`."""
        document = json.loads(line)
        lease = Lease(**document.pop("lease"))
        space = Space.of_document(document.pop("space"))
        return cls(lease=lease, space=space, **document)
