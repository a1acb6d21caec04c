"""The leaderboard: one score identity by any of its values, ranks by what intervals can tell apart."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from sqlalchemy import select

from tunix_rt.errors import InvalidInput, NotFound
from tunix_rt.quality.paired import mcnemar_mid_p_two_sided, tango_interval
from tunix_rt.registry.evaluations.tables import EvaluationRow, ScoreValueRow
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.runs.tables import RunRow
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


async def test_entries_are_ordered_by_a_section_with_its_own_interval(registry: Any) -> None:
    items = [registry.item(n, section="core" if n < 20 else "edge_case") for n in range(40)]
    evalset, model = await registry.evalset(items), await registry.model()
    # Right answers in each section of 20: the second is better overall, the first in edge cases.
    made = [
        await registry.scored(evalset.id, model.id, right(core, 20) + right(edge, 20))
        for core, edge in ((2, 19), (20, 18), (10, 2))
    ]
    found = await board(registry, evalset.id, order_by="sections.edge_case")
    assert [each.evaluation_id for each in found.entries] == [made[n].id for n in (0, 1, 2)]
    assert [each.value for each in found.entries] == pytest.approx([0.95, 0.9, 0.1])
    # Of the section's 20 items: 19 and 18 right cannot be told apart, 2 right can.
    assert [each.rank for each in found.entries] == [1, 1, 3]
    assert [each.tied_with_first for each in found.entries] == [True, True, False]
    section = next(each for each in made[0].scorecard.slices if each.value == "edge_case")
    assert (found.entries[0].value_ci_low, found.entries[0].value_ci_high) == (section.ci_low, section.ci_high)
    assert found.entries[0].primary_score == pytest.approx(21 / 40)
    assert found.order_by == "sections.edge_case desc"
    assert (await board(registry, evalset.id)).entries[0].evaluation_id == made[1].id


async def test_ascending_order_ranks_the_smallest_first_and_ties_by_the_same_rule(registry: Any) -> None:
    evalset, model = await registry.evalset(60), await registry.model()
    made = [await registry.scored(evalset.id, model.id, right(count, 60)) for count in (58, 57, 30, 3)]
    pages, token = [], ""
    for _ in range(2):
        page = await board(registry, evalset.id, order_by="primary_score asc", page_size=2, page_token=token)
        pages += page.entries
        token = page.next_page_token
    assert (page.order_by, token) == ("primary_score asc", "")
    assert [each.evaluation_id for each in pages] == [made[n].id for n in (3, 2, 1, 0)]
    assert [(each.rank, each.tied_with_first) for each in pages] == [(1, True), (2, False), (3, False), (3, False)]


async def test_evaluations_without_the_value_are_left_out(registry: Any, new_result: Any) -> None:
    evalset, model = await registry.evalset([registry.item(n, category="sums of two") for n in range(4)]), "pkg://a"
    lengths = {}
    for tokens in (40.0, 20.0, None):
        created = await registry.queued(evalset.id, model)
        claim = await registry.claim(created.id)
        metrics = {"answer_correctness": 1.0} | ({} if tokens is None else {"trace_tokens": tokens})
        await registry.record(
            claim.lease, [new_result(each.id, 1.0, metrics=metrics) for each in claim.evaluation.items]
        )
        lengths[(await registry.complete(claim.lease, claim.evaluation.evaluation.model_id)).id] = tokens
    found = await board(registry, evalset.id, order_by="metrics.trace_tokens asc")
    assert [(each.value, lengths[each.evaluation_id]) for each in found.entries] == [(20.0, 20.0), (40.0, 40.0)]
    assert len((await board(registry, evalset.id, order_by="categories.sums of two")).entries) == 3
    assert list((await board(registry, evalset.id, order_by="pass@4")).entries) == []


@pytest.mark.parametrize("order_by", ["score", "metrics.", "pass@0", "maj@k", "primary_score down", "desc", "coverage"])
async def test_an_order_that_does_not_exist_is_refused(registry: Any, refusal: Any, order_by: str) -> None:
    evalset = await registry.evalset(2)
    refused = await refusal(board(registry, evalset.id, order_by=order_by))
    assert (refused.kind, refused.violations) == (InvalidInput, ["order_by"])


async def test_filters_know_the_run_behind_a_score(registry: Any) -> None:
    evalset = await registry.evalset(4)
    made = {}
    for name, rate, rank, packing in (("a", 1e-4, 8, True), ("b", 5e-5, 16, False), ("b", 2e-3, None, False)):
        model = await registry.model(name)
        hyperparameters = {"learning_rate": rate, "seed": 12, "packing": packing, "lr_scheduler_type": "cosine"}
        if rank:
            hyperparameters["lora"] = {"rank": rank}
        spec = {"hyperparameters": hyperparameters}

        def give_run(session: Any, model_id: str = model.id, spec: Any = spec, name: str = name) -> None:
            run = RunRow(
                id=f"run-of-{model_id}",
                create_time=utc_now(),
                spec=json.dumps(spec),
                spec_digest="",
                pool="cpu",
                base_model="preset://tiny",
                dataset_id=f"ds-{name}",
                model_name=name,
            )
            session.add(run)
            session.get(ModelVersionRow, model_id).run_id = run.id

        await registry.database.run_write(give_run)
        made[rate] = (await registry.scored(evalset.id, model.id, right(2, 4), tags={"rate": str(rate)})).id
    bare = (await registry.scored(evalset.id, (await registry.model("c")).id, right(1, 4))).id
    wanted = {
        "": {1e-4, 5e-5, 2e-3},
        "model_name = b": {5e-5, 2e-3},
        "dataset_id = ds-a": {1e-4},
        # As text 5e-05 is more than 0.002.
        "config.learning_rate < 1e-4": {5e-5},
        "config.learning_rate >= 0.0001 AND config.learning_rate < 1": {1e-4, 2e-3},
        "config.lora.rank >= 9": {5e-5},
        "NOT config.lora.rank >= 9": {1e-4, 2e-3},
        "config.packing = true": {1e-4},
        "config.packing != true": {5e-5, 2e-3},
        "config.lr_scheduler_type : COS config.seed = 12": {1e-4, 5e-5, 2e-3},
        'create_time > "2020-01-01" tags.rate : "e-05"': {5e-5},
    }
    for text, rates in wanted.items():
        found = await board(registry, evalset.id, filter=text)
        listed = await registry.evaluations.ListEvaluations(pb.ListEvaluationsRequest(filter=text), timeout=10)
        expected = {made[rate] for rate in rates} | ({bare} if not text or text[:3] == "NOT" or "!=" in text else set())
        assert {each.evaluation_id for each in found.entries} == expected, text
        assert {each.id for each in listed.evaluations} == expected, text
    entry = next(each for each in (await board(registry, evalset.id)).entries if each.evaluation_id == made[1e-4])
    assert (entry.dataset_id, dict(entry.tags)) == ("ds-a", {"rate": "0.0001"})


@pytest.mark.parametrize(
    "text", ["config = 1", "config.speed = 1", "config.learning_rate = fast", "config.packing = 1", "config.seed : 1"]
)
async def test_a_filter_on_the_config_names_a_hyperparameter_and_a_value_of_its_kind(
    registry: Any, refusal: Any, text: str
) -> None:
    evalset = await registry.evalset(2)
    assert (await refusal(board(registry, evalset.id, filter=text))).violations == ["filter"]


async def test_short_coverage_is_kept_as_its_coverage_alone(registry: Any) -> None:
    evalset, model = await registry.evalset(10), await registry.model()
    await registry.scored(evalset.id, model.id, [None, *right(9, 9)])

    def names(session: Any) -> list[tuple[str, float]]:
        return [(each.name, each.value) for each in session.scalars(select(ScoreValueRow))]

    assert await registry.database.run_read(names) == [("coverage", 0.9)]
    found = await board(registry, evalset.id, order_by="metrics.format_compliance")
    assert (list(found.entries), found.n_invalid) == ([], 1)


async def _of_a_run(registry: Any, run_id: str, evaluation_id: str) -> None:
    """Make the evaluation one of a run."""

    def change(session: Any) -> None:
        if session.get(RunRow, run_id) is None:
            run = RunRow(
                id=run_id, create_time=utc_now(), spec="{}", spec_digest="", pool="cpu", base_model="preset://tiny",
                dataset_id="ds", model_name="m",
            )  # fmt: skip
            session.add(run)
        session.get_one(EvaluationRow, evaluation_id).run_id = run_id

    await registry.database.run_write(change)


async def test_a_run_has_the_line_of_its_newest_evaluation_unless_all_are_asked_for(registry: Any) -> None:
    evalset, model = await registry.evalset(60), await registry.model()
    counts = {"a1": 58, "a2": 30, "b1": 29, "none1": 20, "none2": 19}
    ids = {}
    for name, count in counts.items():
        tags = {"half": "first" if name.endswith("1") else "second"}
        ids[name] = (await registry.scored(evalset.id, model.id, right(count, 60), tags=tags)).id
        if not name.startswith("none"):
            await _of_a_run(registry, f"run-{name[0]}", ids[name])

    async def shown(**fields: Any) -> list[str]:
        names = {evaluation_id: name for name, evaluation_id in ids.items()}
        found = await board(registry, evalset.id, **fields)
        return [names[each.evaluation_id] for each in found.entries]

    assert await shown() == ["a2", "b1", "none1", "none2"]
    assert await shown(every_evaluation=True) == ["a1", "a2", "b1", "none1", "none2"]
    # The newest of those that fit the filter.
    assert await shown(filter='tags.half = "first"') == ["a1", "b1", "none1"]
    first = await board(registry, evalset.id, page_size=1)
    refused = board(registry, evalset.id, page_size=1, page_token=first.next_page_token, every_evaluation=True)
    with pytest.raises(grpc.aio.AioRpcError):
        await refused


async def test_differences_to_the_first_tell_apart_what_intervals_do_not(registry: Any) -> None:
    evalset, model = await registry.evalset(100), await registry.model()
    values = {60: right(60, 100), 52: right(52, 100), 51: [0.0] * 49 + [1.0] * 51}
    for each in values.values():
        await registry.scored(evalset.id, model.id, each)
    plain = await board(registry, evalset.id)
    assert [each.tied_with_first for each in plain.entries] == [True, True, True]
    assert not any(each.HasField("difference_to_first") for each in plain.entries)
    first, token = await board(registry, evalset.id, page_size=1, with_differences=True), ""
    assert not first.entries[0].HasField("difference_to_first")
    token = first.next_page_token
    rest = await board(registry, evalset.id, page_token=token, with_differences=True)
    # Eight regressions and no fix; 49 regressions against 40 fixes.
    expected = [compared(values[60], values[other]) for other in (52, 51)]
    for entry, (delta, low, high, p_value) in zip(rest.entries, expected, strict=True):
        found = entry.difference_to_first
        assert found.n_paired == 100
        assert (found.delta, found.ci_low, found.ci_high, found.p_value) == pytest.approx((delta, low, high, p_value))
    assert rest.entries[0].difference_to_first.p_value < 0.01
    assert rest.entries[1].difference_to_first.p_value > 0.2
    sections = await board(registry, evalset.id, order_by="sections.core", with_differences=True)
    assert not any(each.HasField("difference_to_first") for each in sections.entries)


def compared(before: list[float], after: list[float]) -> tuple[float, float, float, float]:
    regressions = sum(b < a for a, b in zip(before, after, strict=True))
    fixes = sum(b > a for a, b in zip(before, after, strict=True))
    n = len(before)
    return (
        (fixes - regressions) / n,
        *tango_interval(regressions, fixes, n),
        mcnemar_mid_p_two_sided(regressions, fixes),
    )
