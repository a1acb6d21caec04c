"""Model versions with their lineage, aliases and the history of their moves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import Call, One, Pages, new_request_id, paged, unary
from tunix_rt.client.records import Record, Resource
from tunix_rt.client.resources.common import Artifact
from tunix_rt.contract.enums import ModelFormat
from tunix_rt.v1 import models_pb2 as pb
from tunix_rt.v1.models_pb2_grpc import ModelServiceStub as Stub


class Lineage(Record, of=pb.Lineage):
    """Where a model version comes from; empty for one that no run here made."""

    run_id: str
    attempt: int
    step: int
    dataset_id: str
    base_model: str
    code_revision: str
    details: dict[str, str]


class Unpinning(Record, of=pb.Unpinning):
    """A digest that an admin took from a reference."""

    digest: str
    reason: str
    actor: str
    time: datetime


class ModelVersion(Resource[Mode], of=pb.ModelVersion):
    """A version of a registered model; ``reference`` is what a loader is given."""

    _shown = ("id", "name", "version", "reference")

    id: str
    name: str
    version: int
    format: ModelFormat
    artifact: Artifact
    reference: str
    lineage: Lineage
    create_time: datetime | None
    tags: dict[str, str]
    etag: str
    unpinnings: tuple[Unpinning, ...]
    project: str
    archive_time: datetime | None


class Alias(Resource[Mode], of=pb.Alias):
    """A name for one version of a model, such as "production", as it was when it was read."""

    _shown = ("model_name", "alias", "model_id", "gate_policy_id", "etag")

    model_name: str
    alias: str
    model_id: str
    gate_policy_id: str
    update_time: datetime | None
    etag: str
    project: str

    @one
    def promote(
        self, model_id: str, *, gate_decision_id: str = "", waiver_reason: str = "", waiver_id: str = ""
    ) -> One[Alias[Mode]]:
        """Move it to another version; raises `Aborted` when it has been moved since it was read."""
        return Models.promote(
            self.model_name,
            self.alias,
            model_id,
            etag=self.etag,
            gate_decision_id=gate_decision_id,
            waiver_reason=waiver_reason,
            waiver_id=waiver_id,
        )

    @one
    def guard(self, gate_policy_id: str, *, reason: str = "", waiver_id: str = "") -> One[Alias[Mode]]:
        """Guard it by a gate policy, or by none with ""; raises `Aborted` when it has changed since it was read."""
        return Models.guard(
            self.model_name, self.alias, gate_policy_id, etag=self.etag, reason=reason, waiver_id=waiver_id
        )


class Promotion(Record, of=pb.Promotion):
    """One move of an alias, or a change of its guard: then both models are its holder."""

    id: str
    model_name: str
    alias: str
    from_model_id: str
    to_model_id: str
    gate_decision_id: str
    waiver_reason: str
    actor: str
    create_time: datetime
    from_gate_policy_id: str
    to_gate_policy_id: str
    reason: str
    waiver_id: str
    waiver_requested_by: str
    note: str


class Waiver(Record, of=pb.Waiver):
    """A request for one exception from an alias's guard: a move, or (``model_id`` None) another guard."""

    id: str
    model_name: str
    alias: str
    model_id: str | None
    gate_policy_id: str | None
    reason: str
    requested_by: str
    create_time: datetime
    alias_etag: str


class SigningKey(Record, of=pb.SigningKey):
    """A public key that the registry signs with, or has signed with."""

    id: str
    public_key: str
    create_time: datetime
    current: bool


class Models(Group[Mode]):
    """``client.models``"""

    @one
    @staticmethod
    def register(
        name: str, reference: str, *, tags: Mapping[str, str] | None = None, request_id: str | None = None
    ) -> Call[ModelVersion[Mode]]:
        """Register a model that no run here produced: ``hf://``, ``file://``, ``gguf://`` or ``pkg://``."""
        request = pb.RegisterModelRequest(
            request_id=new_request_id(request_id), name=name, reference=reference, tags=tags
        )
        return unary(Stub, lambda stub: stub.RegisterModel, request, ModelVersion, deadline_seconds=300.0)

    @one
    @staticmethod
    def get(id: str) -> Call[ModelVersion[Mode]]:
        """One model version by id, ``name@alias`` or ``name/version``."""
        return unary(Stub, lambda stub: stub.GetModel, pb.GetModelRequest(id=id), ModelVersion)

    @many
    @staticmethod
    def list(
        *, filter: str = "", order_by: str = "", page_size: int = 0, limit: int | None = None
    ) -> Pages[ModelVersion[Mode]]:
        """Model versions; fields: id, name, version, run_id, digest, create_time, tags.NAME."""
        request = pb.ListModelsRequest(page_size=page_size, filter=filter, order_by=order_by)
        return paged(
            Stub,
            lambda stub: stub.ListModels,
            request,
            lambda page, runner: ModelVersion.each(page.models, runner),
            limit=limit,
        )

    @many
    @staticmethod
    def aliases(model_name: str = "", *, page_size: int = 0, limit: int | None = None) -> Pages[Alias[Mode]]:
        """The aliases of a model name, or of all, by model name, then alias."""
        request = pb.ListAliasesRequest(model_name=model_name, page_size=page_size)
        return paged(
            Stub,
            lambda stub: stub.ListAliases,
            request,
            lambda page, runner: Alias.each(page.aliases, runner),
            limit=limit,
        )

    @one
    @staticmethod
    def alias(model_name: str, alias: str, *, at: datetime | None = None) -> Call[Alias[Mode]]:
        """One alias and who holds it, or held it at ``at`` (UTC where it has no time zone).

        Raises `NotFound` where there is none, or was none yet.
        """
        request = pb.GetAliasRequest(model_name=model_name, alias=alias)
        if at is not None:
            request.at.FromDatetime(at)
        return unary(Stub, lambda stub: stub.GetAlias, request, Alias)

    @one
    @staticmethod
    def promote(
        model_name: str,
        alias: str,
        model_id: str,
        *,
        etag: str = "",
        gate_decision_id: str = "",
        waiver_reason: str = "",
        waiver_id: str = "",
        request_id: str | None = None,
    ) -> Call[Alias[Mode]]:
        """Point an alias at a model version. A guarded alias needs a fresh PASS or, from an approver, a waiver that
        somebody else asked for (`request_waiver`); on a single-user platform, ``waiver_reason``.

        ``etag`` is that of the alias as you read it (`alias`); without one the alias is created. Raises `Aborted` when
        it exists and ``etag`` is stale, or missing; `InvalidInput` when it is missing and a policy guards the alias.
        `Alias.promote` sends its own etag.
        """
        request = pb.SetAliasRequest(
            request_id=new_request_id(request_id),
            model_name=model_name,
            alias=alias,
            model_id=model_id,
            etag=etag,
            gate_decision_id=gate_decision_id,
            waiver_reason=waiver_reason,
            waiver_id=waiver_id,
        )
        return unary(Stub, lambda stub: stub.SetAlias, request, Alias)

    @one
    @staticmethod
    def guard(
        model_name: str,
        alias: str,
        gate_policy_id: str,
        *,
        etag: str,
        reason: str = "",
        waiver_id: str = "",
        request_id: str | None = None,
    ) -> Call[Alias[Mode]]:
        """Attach a gate policy to an alias; an empty policy id detaches it. ``etag`` as in `promote`.

        An alias that has a guard needs a ``reason``, and a waiver of somebody else where the new guard is none or not
        at least as strict.
        """
        request = pb.SetAliasPolicyRequest(
            request_id=new_request_id(request_id),
            model_name=model_name,
            alias=alias,
            gate_policy_id=gate_policy_id,
            etag=etag,
            reason=reason,
            waiver_id=waiver_id,
        )
        return unary(Stub, lambda stub: stub.SetAliasPolicy, request, Alias)

    @one
    @staticmethod
    def request_waiver(
        model_name: str,
        alias: str,
        *,
        reason: str,
        model_id: str | None = None,
        gate_policy_id: str | None = None,
        request_id: str | None = None,
    ) -> Call[Waiver]:
        """Ask for an exception from an alias's guard; an approver who is somebody else grants it by using it.

        It is to move to ``model_id``, or to be guarded by ``gate_policy_id`` ("" by none).
        """
        request = pb.RequestWaiverRequest(
            request_id=new_request_id(request_id), model_name=model_name, alias=alias, reason=reason
        )
        if model_id is not None:
            request.model_id = model_id
        if gate_policy_id is not None:
            request.gate_policy_id = gate_policy_id
        return unary(Stub, lambda stub: stub.RequestWaiver, request, Waiver)

    @many
    @staticmethod
    def waivers(
        model_name: str = "", alias: str = "", *, page_size: int = 0, limit: int | None = None
    ) -> Pages[Waiver]:
        """Every waiver that was asked for, newest first."""
        request = pb.ListWaiversRequest(model_name=model_name, alias=alias, page_size=page_size)
        return paged(
            Stub, lambda stub: stub.ListWaivers, request, lambda page, _: Waiver.each(page.waivers), limit=limit
        )

    @one
    @staticmethod
    def unpin(id: str, *, reason: str, request_id: str | None = None) -> Call[ModelVersion[Mode]]:
        """Forget the digest that a reference was pinned to; the next evaluation pins it again."""
        request = pb.UnpinModelRequest(request_id=new_request_id(request_id), id=id, reason=reason)
        return unary(Stub, lambda stub: stub.UnpinModel, request, ModelVersion)

    @many
    @staticmethod
    def promotions(
        model_name: str, alias: str = "", *, page_size: int = 0, limit: int | None = None
    ) -> Pages[Promotion]:
        """Every move of the model's aliases; this history cannot be rewritten."""
        request = pb.ListPromotionsRequest(model_name=model_name, alias=alias, page_size=page_size)
        return paged(
            Stub,
            lambda stub: stub.ListPromotions,
            request,
            lambda page, _: Promotion.each(page.promotions),
            limit=limit,
        )

    @many
    @staticmethod
    def signing_keys(*, page_size: int = 0, limit: int | None = None) -> Pages[SigningKey]:
        """The registry's public keys, newest first."""
        request = pb.ListSigningKeysRequest(page_size=page_size)
        return paged(
            Stub, lambda stub: stub.ListSigningKeys, request, lambda page, _: SigningKey.each(page.keys), limit=limit
        )
