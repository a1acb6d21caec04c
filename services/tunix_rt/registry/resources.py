"""Every resource of the registry: how its rows are shown in facts and answers. Jobs have their own table."""

from __future__ import annotations

from typing import Final

from tunix_rt.registry.access.messages import principal_message
from tunix_rt.registry.access.tables import PrincipalRow
from tunix_rt.registry.datasets.messages import dataset_message
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.evalsets.rules import described
from tunix_rt.registry.evalsets.tables import EvalSetRow
from tunix_rt.registry.gates.tables import GateDecisionRow, GatePolicyRow
from tunix_rt.registry.jobs.kinds import JOBS
from tunix_rt.registry.kernel.job_tables import TransitionRow
from tunix_rt.registry.kernel.messages import transition_message
from tunix_rt.registry.kernel.pools import PoolRow, pool_message
from tunix_rt.registry.kernel.resources import Resource, Resources
from tunix_rt.registry.kernel.signing import signing_key_message
from tunix_rt.registry.kernel.signing_tables import SigningKeyRow
from tunix_rt.registry.models import messages as models
from tunix_rt.registry.models.tables import AliasRow, BaselineRow, ModelVersionRow, PromotionRow, WaiverRow
from tunix_rt.v1 import events_pb2 as pb

RESOURCES: Final[Resources] = {
    **JOBS,
    PrincipalRow: Resource("principal", lambda _, row: principal_message(row)),
    PoolRow: Resource("pool", lambda _, row: pool_message(row), pb.PoolEvent),
    TransitionRow: Resource("transition", lambda _, row: transition_message(row)),
    DatasetRow: Resource("dataset", lambda _, row: dataset_message(row), pb.DatasetEvent),
    EvalSetRow: Resource("evalset", lambda session, row: described(session, [row])[0], pb.EvalSetEvent),
    ModelVersionRow: Resource("model", lambda _, row: models.model_message(row), pb.ModelEvent),
    AliasRow: Resource("alias", lambda _, row: models.alias_message(row), pb.AliasEvent),
    PromotionRow: Resource("promotion", lambda _, row: models.promotion_message(row)),
    WaiverRow: Resource("waiver", lambda _, row: models.waiver_message(row)),
    BaselineRow: Resource("baseline", lambda _, row: models.baseline_message(row), pb.BaselineEvent),
    SigningKeyRow: Resource("signing_key", lambda _, row: signing_key_message(row)),
    GatePolicyRow: Resource("gate_policy", lambda _, row: models.policy_message(row)),
    GateDecisionRow: Resource("gate", lambda _, row: models.decision_message(row), pb.GateEvent, field="decision"),
}
