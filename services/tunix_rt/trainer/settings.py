"""The trainer's settings, read from TUNIX_RT_* variables."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tunix_rt.contract.identifiers import DEFAULT_POOL, POOL
from tunix_rt.trainer.job import Member
from tunix_rt.worker.settings import WorkerSettings


class TrainerSettings(WorkerSettings):
    """All times in seconds."""

    listen: str = "127.0.0.1:7701"
    # Hardware pool whose commands this trainer takes.
    pool: str = Field(default=DEFAULT_POOL, pattern=f"^{POOL.pattern}$")
    # Metrics and logs go to the registry this often.
    report_seconds: float = Field(default=1.0, gt=0)
    # After SIGTERM: how long a checkpoint may take before the process is killed and the job handed back as it was.
    hand_back_seconds: float = Field(default=20.0, ge=0)
    # After a cancellation: how long the training process may take to end before it is killed.
    cancel_seconds: float = Field(default=1.0, ge=0)
    # Compiled programs are kept in the cache directory, so that the next run with the same shapes starts in seconds.
    compilation_cache: bool = True
    # Revision of the code, for the lineage of models. Empty: what the installation or the git work tree says.
    code_revision: str = ""

    # Processes that train one model together: how many, which of them this trainer starts, and where (host:port) the
    # training process of number 0 listens for the others. Number 0 takes commands; the others stand by for it. Without
    # an address JAX finds the others from the environment (TPU metadata, Slurm, Kubernetes).
    num_processes: int = Field(default=1, ge=1)
    process_id: int = Field(default=0, ge=0)
    coordinator_address: str = ""
    # For tests and dry runs of meshes: the CPU appears as this many devices. 0: off.
    simulated_devices: int = Field(default=0, ge=0, le=64)

    @property
    def member(self) -> Member | None:
        """This trainer's place among those that train together; None when it is alone."""
        if self.num_processes == 1:
            return None
        return Member(self.coordinator_address, self.num_processes, self.process_id)

    @property
    def work_dir(self) -> Path:
        """Scratch space of this trainer: the listen address makes it unique."""
        return self.home.absolute() / "work" / f"trainer-{self.listen.replace(':', '-').replace('/', '-')}"
