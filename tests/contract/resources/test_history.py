"""Promotions, baselines, gate policies and decisions: written once."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from tunix_rt.registry.gates.rules import BUILT_IN, create_policy
from tunix_rt.registry.gates.tables import GatePolicyRow
from tunix_rt.registry.models.tables import PromotionRow
from tunix_rt.v1 import models_pb2 as pb


async def test_a_row_of_history_can_be_neither_changed_nor_deleted(registry: Any) -> None:
    model = await registry.model("m")
    request = pb.SetAliasRequest(request_id=registry.request_id(), model_name="m", alias="best", model_id=model.id)
    await registry.models.SetAlias(request, timeout=10)

    def rewrite(session: Any) -> None:
        session.scalars(select(PromotionRow)).one().waiver_reason = "it was always so"

    def forget(session: Any) -> None:
        session.delete(session.scalars(select(PromotionRow)).one())

    for work in (rewrite, forget):
        with pytest.raises(TypeError, match="written once"):
            await registry.database.run_write(work)
    kept = await registry.database.run_read(lambda s: s.scalars(select(PromotionRow)).one())
    assert kept.waiver_reason == ""


@pytest.mark.parametrize("statement", ["UPDATE promotions SET waiver_reason = 'always so'", "DELETE FROM promotions"])
async def test_sql_that_goes_past_the_sessions_cannot_rewrite_it_either(registry: Any, statement: str) -> None:
    model = await registry.model("m")
    request = pb.SetAliasRequest(request_id=registry.request_id(), model_name="m", alias="best", model_id=model.id)
    await registry.models.SetAlias(request, timeout=10)
    with pytest.raises(DBAPIError, match="written once"):
        await registry.database.run_write(lambda session: session.execute(text(statement)))
    kept = await registry.database.run_read(lambda s: s.scalars(select(PromotionRow)).one())
    assert (kept.to_model_id, kept.waiver_reason) == (model.id, "")


async def test_a_policy_cannot_be_changed_in_the_transaction_that_made_it_either(registry: Any) -> None:
    def work(session: Any) -> None:
        create_policy(session, BUILT_IN, actor="a", given_etag="r1").margin = 0.5

    with pytest.raises(TypeError, match="written once"):
        await registry.database.run_write(work)
    assert await registry.count(GatePolicyRow) == 1
