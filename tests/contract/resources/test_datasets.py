"""DatasetService: content-addressed builds, all-or-nothing imports, exports, deletion."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tunix_rt.errors import Aborted, Conflict, FailedPrecondition, InvalidArtifact, InvalidInput, NotFound
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.kernel.rows import new_id, utc_now
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.v1 import datasets_pb2 as pb


def trace(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "trace_version": "1.0",
        "prompt": f"What is {number} plus one?",
        "steps": [{"i": 1, "type": "compute", "content": f"{number} + 1 = {number + 1}"}],
        "final_answer": str(number + 1),
    } | fields


def build(registry: Any, **fields: Any) -> Any:
    request = {"request_id": registry.request_id(), "recipe": "golden-v2"} | fields
    return registry.datasets.BuildDataset(pb.BuildDatasetRequest(**request), timeout=30)


def upload(registry: Any, data: bytes, *, chunk: int = 64, **spec: Any) -> Any:
    given = {"request_id": registry.request_id(), "key": "mine"} | spec

    async def parts() -> AsyncIterator[pb.ImportDatasetRequest]:
        yield pb.ImportDatasetRequest(spec=pb.ImportDatasetSpec(**given))
        for start in range(0, len(data), chunk):
            yield pb.ImportDatasetRequest(chunk=data[start : start + chunk])

    return registry.datasets.ImportDataset(parts(), timeout=30)


async def exported(registry: Any, dataset_id: str, export_format: Any) -> list[dict[str, Any]]:
    request = pb.ExportDatasetRequest(id=dataset_id, format=export_format)
    data = b"".join([part.chunk async for part in registry.datasets.ExportDataset(request, timeout=30)])
    return [json.loads(line) for line in data.decode().splitlines()]


def lines(traces: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(each) + "\n" for each in traces).encode()


async def test_a_build_stores_its_content_under_its_digest(registry: Any) -> None:
    dataset = await build(registry, tags={"team": "a"})
    assert dataset.key == "golden-v2"
    assert dataset.manifest.trace_count == 100
    assert dataset.tags == {"team": "a"}
    content = registry.artifacts.get_bytes(dataset.artifact.uri, dataset.artifact.digest)
    assert len(content) == dataset.artifact.size_bytes
    assert content.count(b"\n") == 100
    assert (await registry.facts()) == ["tunix.evt.dataset.created"]


async def test_the_same_content_under_the_same_key_is_one_dataset(registry: Any) -> None:
    first, again, other = await build(registry), await build(registry), await build(registry, key="copy")
    assert again == first
    assert other.id != first.id
    assert other.artifact.digest == first.artifact.digest
    assert await registry.count(DatasetRow) == 2


async def test_builds_of_the_same_content_at_once_make_one_row(registry: Any) -> None:
    built = await asyncio.gather(*(build(registry) for _ in range(5)))
    assert len({each.id for each in built}) == 1
    assert await registry.count(DatasetRow) == 1


async def test_size_and_seed_choose_other_content(registry: Any) -> None:
    small = await build(registry, recipe="arith-v1", size=20, seed=1)
    other = await build(registry, recipe="arith-v1", size=20, seed=2)
    assert small.manifest.trace_count == other.manifest.trace_count == 20
    assert small.artifact.digest != other.artifact.digest
    assert small.manifest.seed == 1


async def test_a_repeated_request_id_returns_the_first_answer_and_refuses_another_payload(
    registry: Any, refusal: Any
) -> None:
    same = registry.request_id()
    first = await build(registry, request_id=same)
    assert await build(registry, request_id=same) == first
    assert (await refusal(build(registry, request_id=same, key="other"))).kind is Conflict


async def test_prompts_of_evalsets_are_kept_out_and_every_evalset_is_measured(registry: Any) -> None:
    data = lines([trace(1), trace(2), trace(3)])
    chosen = await registry.evalset([registry.item(0, prompt="what is 2 plus ONE")], key="chosen")
    other = await registry.evalset([registry.item(0, prompt="What is 3 plus one?")], key="other")
    dataset = await upload(registry, data, decontaminate_evalset_ids=[chosen.id])
    assert dataset.manifest.dropped_contaminated == 1
    assert dataset.manifest.trace_count == 2
    found = {each.evalset_id: each.exact_prompts for each in dataset.manifest.contamination}
    assert found == {chosen.id: 0, other.id: 1}


async def test_an_unknown_evalset_to_decontaminate_by_is_named(registry: Any, refusal: Any) -> None:
    refused = await refusal(build(registry, decontaminate_evalset_ids=["es-none"]))
    assert refused.kind is InvalidInput
    assert refused.violations == ["decontaminate_evalset_ids[0]"]
    assert await registry.count(DatasetRow) == 0


async def test_an_import_is_what_its_lines_say(registry: Any) -> None:
    traces = [trace(number) for number in range(5)]
    dataset = await upload(registry, lines(traces))
    assert dataset.manifest.trace_count == 5
    assert await exported(registry, dataset.id, pb.EXPORT_FORMAT_TRACE) == traces


async def test_one_bad_line_refuses_the_whole_import_and_names_every_field(registry: Any, refusal: Any) -> None:
    data = lines([trace(1), trace(2, prompt=""), trace(3, steps=[]), trace(4)]) + b"{not json\n"
    refused = await refusal(upload(registry, data))
    assert refused.kind is InvalidInput
    assert refused.violations == ["line 2.prompt", "line 3.steps", "line 5.json"]
    assert await registry.count(DatasetRow) == 0


async def test_hundreds_of_bad_lines_are_listed_in_part_with_the_number_of_the_rest(
    registry: Any, refusal: Any
) -> None:
    refused = await refusal(upload(registry, b"[]\n" * 500, chunk=1000))
    assert 10 < len(refused.violations) <= 101
    listed = len(refused.violations) - 1
    assert f"and {500 - listed} more violations" in refused.text


async def test_bytes_that_are_not_utf8_are_refused_with_their_line(registry: Any, refusal: Any) -> None:
    refused = await refusal(upload(registry, lines([trace(1)]) + b"\xff\xfe\n"))
    assert refused.violations == ["line 2"]


async def test_an_import_over_the_limit_is_refused(registry: Any, refusal: Any) -> None:
    refused = await refusal(upload(registry, b"x" * 100_001, chunk=10_000))
    assert refused.violations == ["chunk"]


async def test_the_token_budget_drops_and_counts(registry: Any) -> None:
    long = trace(2, steps=[{"i": 1, "type": "compute", "content": "one two three " * 50}])
    dataset = await upload(registry, lines([trace(1), long]), max_trace_tokens=60)
    assert dataset.manifest.trace_count == 1
    assert dataset.manifest.dropped_over_budget == 1


async def test_near_duplicates_and_categories_are_stored_and_returned(registry: Any) -> None:
    nine = "one two three four five six seven eight nine"
    steps = [{"i": 1, "type": "compute", "content": "so"}, {"i": 2, "type": "conclude", "content": "then"}]
    traces = [
        trace(1, prompt=nine, meta={"category": "count"}),
        trace(1, prompt=f"{nine} ten", steps=steps, meta={"category": "count"}),
        trace(4),
    ]
    imported = await upload(registry, lines(traces))
    found = await registry.datasets.GetDataset(pb.GetDatasetRequest(id=imported.id), timeout=10)
    assert found == imported
    assert found.manifest.near_duplicates == 1
    by_category = {each.category: each for each in found.manifest.category_statistics}
    assert list(by_category) == ["count", "uncategorised"]
    count = by_category["count"]
    assert (count.trace_count, count.mean_steps) == (2, 1.5)
    # Tags, answer and prompt: 14 + 1 + 9 and 14 + 1 + 10; the steps "1 + 1 = 2" and "so", "then" are 5 and 2.
    assert (count.token_lengths.min, count.token_lengths.max, count.token_lengths.mean) == (27, 29, 28.0)
    assert count.token_lengths.tokenizer == "regex-v1"


async def test_manifests_from_before_these_statistics_are_still_read(registry: Any) -> None:
    dataset = await upload(registry, lines([trace(1)]))

    def forget(session: Any) -> None:
        row = session.get(DatasetRow, dataset.id)
        later = {"category_statistics", "near_duplicates"}
        row.manifest = {name: value for name, value in row.manifest.items() if name not in later}

    await registry.database.run_write(forget)
    found = await registry.datasets.GetDataset(pb.GetDatasetRequest(id=dataset.id), timeout=10)
    assert found.manifest.trace_count == 1
    assert list(found.manifest.category_statistics) == []
    assert found.manifest.near_duplicates == 0


@pytest.mark.parametrize(
    ("name", "fields"),
    [("TRACE", {"prompt", "steps", "final_answer", "trace_version"}), ("CHAT", {"messages"})],
)
async def test_an_export_has_one_object_per_trace(registry: Any, name: str, fields: set[str]) -> None:
    dataset = await build(registry)
    rows = await exported(registry, dataset.id, pb.ExportFormat.Value(f"EXPORT_FORMAT_{name}"))
    assert len(rows) == 100
    assert fields <= set(rows[0])


async def test_a_damaged_artifact_is_not_exported(registry: Any, refusal: Any) -> None:
    dataset = await upload(registry, lines([trace(1)]))
    from pathlib import Path
    from urllib.parse import urlparse

    path = Path(urlparse(dataset.artifact.uri).path)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-5])
    assert (await refusal(exported(registry, dataset.id, pb.EXPORT_FORMAT_TRACE))).kind is InvalidArtifact


async def test_lists_are_filtered_and_paged_by_the_database(registry: Any) -> None:
    for number in range(5):
        await upload(
            registry, lines([trace(number)]), key=f"key-{number}", tags={"parity": "odd" if number % 2 else "even"}
        )
    request = pb.ListDatasetsRequest(page_size=2, filter='tags.parity = "even"', order_by="key")
    first = await registry.datasets.ListDatasets(request, timeout=10)
    assert [each.key for each in first.datasets] == ["key-0", "key-2"]
    request.page_token = first.next_page_token
    second = await registry.datasets.ListDatasets(request, timeout=10)
    assert [each.key for each in second.datasets] == ["key-4"]
    assert second.next_page_token == ""


async def test_recipes_are_listed(registry: Any) -> None:
    found = await registry.datasets.ListRecipes(pb.ListRecipesRequest(), timeout=10)
    assert {each.name: each.default_size for each in found.recipes} == {"arith-v1": 6000, "golden-v2": 100}
    first = await registry.datasets.ListRecipes(pb.ListRecipesRequest(page_size=1), timeout=10)
    request = pb.ListRecipesRequest(page_size=1, page_token=first.next_page_token)
    second = await registry.datasets.ListRecipes(request, timeout=10)
    assert [[each.name for each in page.recipes] for page in (first, second)] == [["arith-v1"], ["golden-v2"]]
    assert second.next_page_token == ""


def run_on(dataset_id: str) -> RunRow:
    return RunRow(
        id=new_id("run"),
        create_time=utc_now(),
        spec="{}",
        spec_digest="",
        pool="cpu",
        base_model="preset://tiny",
        dataset_id=dataset_id,
        model_name="default",
    )


async def test_a_dataset_that_a_run_refers_to_is_not_deleted(registry: Any, refusal: Any) -> None:
    dataset = await upload(registry, lines([trace(1)]))
    await registry.database.run_write(lambda s: s.add(run_on(dataset.id)))
    request = pb.DeleteDatasetRequest(request_id=registry.request_id(), id=dataset.id)
    assert (await refusal(registry.datasets.DeleteDataset(request, timeout=10))).kind is FailedPrecondition
    assert (await registry.datasets.GetDataset(pb.GetDatasetRequest(id=dataset.id), timeout=10)) == dataset


async def test_deleting_needs_the_current_etag_when_one_is_sent(registry: Any, refusal: Any) -> None:
    dataset = await upload(registry, lines([trace(1)]))
    request = pb.DeleteDatasetRequest(request_id=registry.request_id(), id=dataset.id, etag="r99")
    assert (await refusal(registry.datasets.DeleteDataset(request, timeout=10))).kind is Aborted
    request = pb.DeleteDatasetRequest(request_id=registry.request_id(), id=dataset.id, etag=dataset.etag)
    await registry.datasets.DeleteDataset(request, timeout=10)
    gone = registry.datasets.GetDataset(pb.GetDatasetRequest(id=dataset.id), timeout=10)
    assert (await refusal(gone)).kind is NotFound
