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
    from tunix_rt.client.clients import AsyncTunixClient as AsyncTunixClient
    from tunix_rt.client.clients import TunixClient as TunixClient
    from tunix_rt.client.platform_file import PlatformFile as PlatformFile
    from tunix_rt.client.platform_file import default_home as default_home
    from tunix_rt.client.platform_file import read_platform_file as read_platform_file
    from tunix_rt.client.resources.datasets import Dataset as Dataset
    from tunix_rt.client.resources.evalsets import EvalSet as EvalSet
    from tunix_rt.client.resources.evaluations import Evaluation as Evaluation
    from tunix_rt.client.resources.gates import Baseline as Baseline
    from tunix_rt.client.resources.gates import GateDecision as GateDecision
    from tunix_rt.client.resources.inference import TextLogprobs as TextLogprobs
    from tunix_rt.client.resources.models import Alias as Alias
    from tunix_rt.client.resources.models import ModelVersion as ModelVersion
    from tunix_rt.client.resources.runs import Run as Run
    from tunix_rt.client.resources.runs import run_spec as run_spec
    from tunix_rt.client.resources.scores import Comparison as Comparison
    from tunix_rt.client.resources.scores import Leaderboard as Leaderboard
    from tunix_rt.client.resources.scores import Scorecard as Scorecard
    from tunix_rt.client.resources.sweeps import Sweep as Sweep
    from tunix_rt.client.resources.sweeps import SweepProgress as SweepProgress
    from tunix_rt.client.resources.sweeps import Trial as Trial
    from tunix_rt.client.workflows.audit import verify_audit as verify_audit
    from tunix_rt.client.workflows.checking import check_model as check_model
    from tunix_rt.client.workflows.evidence import build_evidence as build_evidence
    from tunix_rt.client.workflows.evidence import evalset_items as evalset_items
    from tunix_rt.client.workflows.exporting import export_model as export_model
    from tunix_rt.client.workflows.merging import merge_adapter as merge_adapter
    from tunix_rt.client.workflows.model_cards import model_card as model_card
    from tunix_rt.client.workflows.result_logs import export_results as export_results
    from tunix_rt.client.workflows.sign_in import sign_in as sign_in
    from tunix_rt.client.workflows.trial_configs import trial_config as trial_config
    from tunix_rt.client.workflows.verification import verify_evaluation as verify_evaluation
    from tunix_rt.contract.enums import GateVerdict as GateVerdict
    from tunix_rt.contract.enums import JobState as JobState
    from tunix_rt.contract.enums import Reason as Reason
    from tunix_rt.contract.enums import Verdict as Verdict

# A module is imported when one of its names is used: most commands and scripts need few of them.
_HOMES = {
    "client.clients": "AsyncTunixClient TunixClient",
    "client.platform_file": "PlatformFile default_home read_platform_file",
    "client.resources.datasets": "Dataset",
    "client.resources.evalsets": "EvalSet",
    "client.resources.evaluations": "Evaluation",
    "client.resources.gates": "Baseline GateDecision",
    "client.resources.inference": "TextLogprobs",
    "client.resources.models": "Alias ModelVersion",
    "client.resources.runs": "Run run_spec",
    "client.resources.scores": "Comparison Leaderboard Scorecard",
    "client.resources.sweeps": "Sweep SweepProgress Trial",
    "client.workflows.audit": "verify_audit",
    "client.workflows.checking": "check_model",
    "client.workflows.evidence": "build_evidence evalset_items",
    "client.workflows.exporting": "export_model",
    "client.workflows.merging": "merge_adapter",
    "client.workflows.model_cards": "model_card",
    "client.workflows.sign_in": "sign_in",
    "client.workflows.trial_configs": "trial_config",
    "client.workflows.result_logs": "export_results",
    "client.workflows.verification": "verify_evaluation",
    "contract.enums": "GateVerdict JobState Reason Verdict",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name in _HOME_OF:
        return getattr(import_module(f"tunix_rt.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_HOME_OF)
