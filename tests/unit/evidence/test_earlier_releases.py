"""Evidence that earlier releases wrote still holds; what was touched in it is still named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunix_rt.evidence import documents
from tunix_rt.evidence.archive import pack, unpack
from tunix_rt.evidence.documents import SUMS, json_file, sums_file
from tunix_rt.evidence.problems import Problems
from tunix_rt.evidence.spec_digest import former_spec_digest
from tunix_rt.evidence.verify import verify

ZIPS = sorted((Path(__file__).parents[2] / "fixtures/0005/evidence").glob("*.zip"))


@pytest.mark.parametrize("path", ZIPS, ids=lambda path: path.stem)
def test_evidence_of_the_release_of_revision_0005_holds(path: Path) -> None:
    found = verify(path.read_bytes())
    assert (found.problems, found.ok) == ((), True)
    # By the rules that this release has, or not at all; it never says that other rules gave the scores.
    assert bool(found.n_scored_again) != bool(found.not_scored_again)


def test_a_spec_that_was_changed_does_not_fit_its_former_digest() -> None:
    contents = unpack(next(path for path in ZIPS if path.stem == "configured-run").read_bytes(), Problems())
    manifest = json.loads(contents[documents.RUN_MANIFEST])
    assert manifest["run_version"] == former_spec_digest(manifest["config"])
    manifest["config"]["hyperparameters"]["learning_rate"] *= 2
    changed = {name: data for name, data in contents.items() if name != SUMS}
    changed[documents.RUN_MANIFEST] = json_file(manifest)
    found = verify(pack(changed | {SUMS: sums_file(changed)}))
    assert any(problem.reason.startswith("run_version is ") for problem in found.problems)
