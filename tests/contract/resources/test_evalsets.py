"""EvalSetService: versions by content, items in order, refusals that name the line."""

from __future__ import annotations

from typing import Any

from tunix_rt.errors import InvalidInput, NotFound
from tunix_rt.quality.resolution import detectable
from tunix_rt.registry.evalsets.tables import EvalSetItemRow, EvalSetRow
from tunix_rt.v1 import evalsets_pb2 as pb


async def test_an_evalset_has_statistics_and_a_digest(registry: Any) -> None:
    items = [
        registry.item(0, section="core", category="sums", difficulty="easy", answer_type="numeric"),
        registry.item(1, section="edge_case", category="sums", answer_type="numeric"),
        registry.item(2, section="core", category="words", difficulty="hard"),
    ]
    evalset = await registry.evalset(items)
    assert evalset.item_count == 3
    assert evalset.sections == {"core": 2, "edge_case": 1}
    assert evalset.difficulties == {"easy": 1, "medium": 1, "hard": 1}
    assert evalset.answer_types == {"numeric": 2, "text": 1}
    assert evalset.categories == {"sums": 2, "words": 1}
    assert evalset.digest.startswith("sha256:")
    assert await registry.facts() == ["tunix.evt.evalset.created"]


async def test_the_same_content_under_the_same_key_is_one_version_whatever_its_layout(registry: Any) -> None:
    first = await registry.evalset([registry.item(0), registry.item(1)])
    reordered = [dict(reversed(registry.item(number).items())) for number in range(2)]
    assert await registry.evalset(reordered) == first
    assert await registry.count(EvalSetRow) == 1
    assert await registry.count(EvalSetItemRow) == 2


async def test_a_key_names_its_newest_version_and_an_id_any(registry: Any) -> None:
    first, second = await registry.evalset(2), await registry.evalset(3)
    assert first.digest != second.digest
    by_key = await registry.evalsets.GetEvalSet(pb.GetEvalSetRequest(id="quiz"), timeout=10)
    by_id = await registry.evalsets.GetEvalSet(pb.GetEvalSetRequest(id=first.id), timeout=10)
    assert (by_key.id, by_id.id) == (second.id, first.id)


async def test_items_come_back_whole_and_in_the_order_of_the_file(registry: Any) -> None:
    full = registry.item(
        7,
        section="trace_sensitive",
        category="physics",
        difficulty="medium",
        answer_type="numeric",
        abs_tol="0.01",
        unit="m/s",
        aliases=["8.00"],
        cluster_id="text-1",
        meta={"source": "us", "page": 3},
    )
    evalset = await registry.evalset([registry.item(9), full, registry.item(1)])
    listed = await registry.evalsets.ListEvalSetItems(pb.ListEvalSetItemsRequest(evalset_id=evalset.id), timeout=10)
    assert [each.id for each in listed.items] == ["q009", "q007", "q001"]
    found = listed.items[1]
    assert found.section == pb.SECTION_TRACE_SENSITIVE
    assert found.difficulty == pb.DIFFICULTY_MEDIUM
    assert found.answer_type == pb.ANSWER_TYPE_NUMERIC
    assert (found.abs_tol, found.unit, list(found.aliases), found.cluster_id) == ("0.01", "m/s", ["8.00"], "text-1")
    assert dict(found.meta) == {"source": "us", "page": 3}
    assert found.index == 1


async def test_items_of_every_answer_type_come_back(registry: Any) -> None:
    golds = {"date": "1929-02-11", "time": "5:30 p.m.", "boolean": "yes", "math": r"\frac{1}{2}", "set": "1, 2"}
    items = [
        registry.item(n, answer_type=kind, expected_answer=gold) for n, (kind, gold) in enumerate(sorted(golds.items()))
    ]
    evalset = await registry.evalset(items)
    listed = await registry.evalsets.ListEvalSetItems(pb.ListEvalSetItemsRequest(evalset_id=evalset.id), timeout=10)
    assert [
        pb.AnswerType.Name(each.answer_type).removeprefix("ANSWER_TYPE_").lower() for each in listed.items
    ] == sorted(golds)


async def test_items_are_filtered_and_paged(registry: Any) -> None:
    items = [registry.item(n, section="core" if n % 2 else "edge_case") for n in range(7)]
    evalset = await registry.evalset(items)
    request = pb.ListEvalSetItemsRequest(evalset_id=evalset.id, page_size=2, filter="section = core")
    first = await registry.evalsets.ListEvalSetItems(request, timeout=10)
    request.page_token = first.next_page_token
    second = await registry.evalsets.ListEvalSetItems(request, timeout=10)
    assert [each.id for each in [*first.items, *second.items]] == ["q001", "q003", "q005"]


async def test_every_violation_of_every_line_is_named_and_nothing_is_stored(registry: Any, refusal: Any) -> None:
    items = [
        registry.item(0),
        registry.item(1, section="main"),
        registry.item(0),
        registry.item(3, colour="red"),
    ]
    refused = await refusal(registry.evalset(items))
    assert refused.kind is InvalidInput
    assert {"jsonl.line 2.section", "jsonl.line 3.id", "jsonl.line 4.colour"} <= set(refused.violations)
    assert await registry.count(EvalSetRow) == 0
    assert await registry.count(EvalSetItemRow) == 0


async def test_an_evalset_tells_the_smallest_differences_it_can_show(registry: Any) -> None:
    clustered = [registry.item(n, cluster_id=f"text-{n // 4}") for n in range(80)]
    alone = [registry.item(n) for n in range(80, 85)]
    created = await registry.evalset(clustered + alone)
    found = await registry.evalsets.GetEvalSet(pb.GetEvalSetRequest(id=created.id), timeout=10)
    listed = await registry.evalsets.ListEvalSets(pb.ListEvalSetsRequest(), timeout=10)
    assert created == found == listed.evalsets[0]
    # 20 clusters and 5 items of their own.
    expected = [(each.discordance, each.difference) for each in detectable(25)]
    assert [(each.discordance, each.difference) for each in found.detectable] == expected
    assert [share for share, _ in expected] == [0.05, 0.10, 0.20, 0.30]


async def test_an_evalset_that_does_not_exist_is_not_found(registry: Any, refusal: Any) -> None:
    refused = await refusal(registry.evalsets.GetEvalSet(pb.GetEvalSetRequest(id="nothing"), timeout=10))
    assert refused.kind is NotFound


async def test_evalsets_are_listed_newest_first(registry: Any) -> None:
    keys = ["a", "b", "c"]
    for key in keys:
        await registry.evalset(2, key=key)
    listed = await registry.evalsets.ListEvalSets(pb.ListEvalSetsRequest(filter="item_count >= 2"), timeout=10)
    assert [each.key for each in listed.evalsets] == ["c", "b", "a"]
