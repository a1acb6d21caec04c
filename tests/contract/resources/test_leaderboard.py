"""The leaderboard: one score identity, best first, ranks by what intervals can tell apart."""

from __future__ import annotations

from typing import Any

import pytest

from tunix_rt.errors import NotFound
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import evaluations_pb2 as pb


async def board(registry: Any, evalset: str, **fields: Any) -> Any:
    return await registry.evaluations.GetLeaderboard(pb.GetLeaderboardRequest(evalset=evalset, **fields), timeout=10)


def right(count: int, of: int) -> list[float]:
    return [1.0] * count + [0.0] * (of - count)


async def test_entries_are_ranked_by_groups_whose_intervals_overlap(registry: Any) -> None:
    evalset = await registry.evalset(60)
    scores = [3, 58, 30, 57, 29]
    done = []
    for number, count in enumerate(scores):
        model = await registry.model(f"m{number}")
        done.append(await registry.scored(evalset.id, model.id, right(count, 60), tags={"n": str(number)}))
    found = await board(registry, "quiz")
    # 58/60 and 57/60 overlap, 30/60 and 29/60 overlap, and 3/60 stands alone (Wilson intervals).
    assert [each.evaluation_id for each in found.entries] == [done[n].id for n in (1, 3, 2, 4, 0)]
    assert [each.rank for each in found.entries] == [1, 1, 3, 3, 5]
    assert [each.tied_with_first for each in found.entries] == [True, True, False, False, False]
    assert found.entries[0].primary_score == pytest.approx(58 / 60)
    assert found.entries[0].metric_means["format_compliance"] == 1.0
    assert found.identity.evalset_digest == evalset.digest


async def test_pages_go_on_with_the_ranks(registry: Any) -> None:
    evalset = await registry.evalset(60)
    for number, count in enumerate([58, 57, 30, 29, 3]):
        model = await registry.model(f"m{number}")
        await registry.scored(evalset.id, model.id, right(count, 60))
    ranks, token = [], ""
    for _ in range(5):
        found = await board(registry, evalset.id, page_size=1, page_token=token)
        ranks += [(each.rank, each.tied_with_first) for each in found.entries]
        token = found.next_page_token
    assert token == ""
    assert ranks == [(1, True), (1, True), (3, False), (3, False), (5, False)]


async def test_equal_scores_are_paged_without_loss(registry: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    done = {(await registry.scored(evalset.id, model.id, [1.0, 0.0])).id for _ in range(5)}
    first = await board(registry, evalset.id, page_size=3)
    second = await board(registry, evalset.id, page_size=3, page_token=first.next_page_token)
    seen = [each.evaluation_id for each in [*first.entries, *second.entries]]
    assert len(seen) == 5
    assert set(seen) == done


async def test_other_identities_and_unfinished_ones_are_left_out(registry: Any) -> None:
    evalset, other = await registry.evalset(2), await registry.evalset(3, key="other")
    model = await registry.model()
    short = common_pb2.GenerationConfig(max_new_tokens=8)
    shorter = await registry.scored(evalset.id, model.id, [1.0, 1.0], generation=short)
    await registry.scored(other.id, model.id, [1.0, 1.0, 1.0])
    await registry.queued(evalset.id, model.id)
    newest = await registry.scored(evalset.id, model.id, [0.0, 1.0])
    found = await board(registry, evalset.id)
    assert [each.evaluation_id for each in found.entries] == [newest.id]
    assert found.identity.generation_digest == newest.identity.generation_digest
    chosen = await board(registry, evalset.id, generation_digest=shorter.identity.generation_digest)
    assert [each.evaluation_id for each in chosen.entries] == [shorter.id]


async def test_the_same_content_under_another_key_shares_the_board(registry: Any) -> None:
    one, two = await registry.evalset(2, key="one"), await registry.evalset(2, key="two")
    assert one.digest == two.digest
    model = await registry.model()
    await registry.scored(one.id, model.id, [1.0, 1.0])
    await registry.scored(two.id, model.id, [0.0, 1.0])
    assert len((await board(registry, "one")).entries) == 2


async def test_short_coverage_is_counted_not_ranked(registry: Any) -> None:
    evalset, model = await registry.evalset(100), await registry.model()
    enough = await registry.scored(evalset.id, model.id, [None] * 2 + [1.0] * 98)
    await registry.scored(evalset.id, model.id, [None] * 3 + [1.0] * 97)
    await registry.scored(evalset.id, model.id, [None] * 100)
    found = await board(registry, evalset.id)
    assert [each.evaluation_id for each in found.entries] == [enough.id]
    assert found.n_invalid == 2


async def test_a_filter_selects_entries(registry: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    await registry.scored(evalset.id, model.id, [1.0, 1.0], tags={"team": "a"})
    kept = await registry.scored(evalset.id, model.id, [0.0, 1.0], tags={"team": "b"})
    found = await board(registry, evalset.id, filter='tags.team = "b"')
    assert [(each.evaluation_id, each.rank) for each in found.entries] == [(kept.id, 1)]


async def test_a_token_of_another_board_is_refused(registry: Any, refusal: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    for _ in range(2):
        await registry.scored(evalset.id, model.id, [1.0, 1.0])
    token = (await board(registry, evalset.id, page_size=1)).next_page_token
    refused = await refusal(board(registry, evalset.id, page_size=1, page_token=token, filter="primary_score > 0"))
    assert refused.violations == ["page_token"]


async def test_an_empty_board_is_empty_and_an_unknown_evalset_not_found(registry: Any, refusal: Any) -> None:
    evalset = await registry.evalset(2)
    found = await board(registry, evalset.id)
    assert list(found.entries) == []
    assert (await refusal(board(registry, "nothing"))).kind is NotFound
