"""The Python SDK: ``TunixClient`` and ``AsyncTunixClient``.

    from tunix_rt.client import JobState, TunixClient

    with TunixClient() as client:                      # finds the local platform, or TUNIX_RT_* in the environment
        dataset = client.datasets.build("arith-v1")
        run = client.runs.create(base_model="preset://tiny", dataset_id=dataset.id, evaluate_on=["arith_v1"])
        run = run.wait(on_change=lambda r: print(r.progress.done, "of", r.progress.total))
        assert run.state is JobState.SUCCEEDED
        print(client.leaderboard("arith_v1"))

Methods take ordinary Python values and return records: attributes have the field names of the contracts, states are
names, times are datetimes. ``record.proto`` is the message, ``record.to_dict()`` the document that ``--json`` prints.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunix_rt.client.clients import AsyncTunixClient, TunixClient
    from tunix_rt.client.resources.datasets import Dataset
    from tunix_rt.client.resources.evalsets import EvalSet
    from tunix_rt.client.resources.evaluations import Evaluation
    from tunix_rt.client.resources.gates import Baseline, GateDecision
    from tunix_rt.client.resources.inference import TextLogprobs
    from tunix_rt.client.resources.models import Alias, ModelVersion
    from tunix_rt.client.resources.runs import Run
    from tunix_rt.client.resources.scores import Comparison, Leaderboard, Scorecard
    from tunix_rt.client.resources.sweeps import Sweep, SweepProgress, Trial
    from tunix_rt.contract.enums import GateVerdict, JobState, Reason, Verdict

# Name → where it is defined: a module is imported when one of its names is used.
_HOMES = {
    "Alias": "client.resources.models",
    "AsyncTunixClient": "client.clients",
    "Baseline": "client.resources.gates",
    "Comparison": "client.resources.scores",
    "Dataset": "client.resources.datasets",
    "EvalSet": "client.resources.evalsets",
    "Evaluation": "client.resources.evaluations",
    "GateDecision": "client.resources.gates",
    "GateVerdict": "contract.enums",
    "JobState": "contract.enums",
    "Leaderboard": "client.resources.scores",
    "ModelVersion": "client.resources.models",
    "Reason": "contract.enums",
    "Run": "client.resources.runs",
    "Scorecard": "client.resources.scores",
    "Sweep": "client.resources.sweeps",
    "SweepProgress": "client.resources.sweeps",
    "TextLogprobs": "client.resources.inference",
    "Trial": "client.resources.sweeps",
    "TunixClient": "client.clients",
    "Verdict": "contract.enums",
}

__all__ = [
    "Alias",
    "AsyncTunixClient",
    "Baseline",
    "Comparison",
    "Dataset",
    "EvalSet",
    "Evaluation",
    "GateDecision",
    "GateVerdict",
    "JobState",
    "Leaderboard",
    "ModelVersion",
    "Reason",
    "Run",
    "Scorecard",
    "Sweep",
    "SweepProgress",
    "TextLogprobs",
    "Trial",
    "TunixClient",
    "Verdict",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"tunix_rt.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
