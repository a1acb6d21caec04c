from __future__ import annotations

from pathlib import Path

import pytest

from tunix_rt.client import ModelVersion
from tunix_rt.client.workflows.merging import merge_adapter, require
from tunix_rt.errors import FailedPrecondition
from tunix_rt.v1 import common_pb2, models_pb2


def test_a_whole_model_is_not_merged(tmp_path: Path) -> None:
    model = ModelVersion(models_pb2.ModelVersion(id="model-1", format=models_pb2.MODEL_FORMAT_HUGGING_FACE))
    with pytest.raises(FailedPrecondition, match="model-1 is not an adapter"):
        merge_adapter(model, tmp_path / "out", artifacts_uri=tmp_path.as_uri())


def test_what_stands_against_merging_is_told(tmp_path: Path) -> None:
    artifact = common_pb2.Artifact(uri=(tmp_path / "gone").as_uri(), digest=f"sha256:{'0' * 64}")
    model = ModelVersion(
        models_pb2.ModelVersion(id="model-1", format=models_pb2.MODEL_FORMAT_PEFT_ADAPTER, artifact=artifact)
    )
    with pytest.raises(FailedPrecondition, match=r"model-1 cannot be merged: .*gone is missing or empty"):
        merge_adapter(model, tmp_path / "out", artifacts_uri=tmp_path.as_uri())
    assert not (tmp_path / "out").exists()


def test_libraries_that_are_not_installed_are_named_with_the_extra_that_has_them() -> None:
    with pytest.raises(FailedPrecondition, match=r"needs no_such_library; .*tunix-rt\[trainer\]"):
        require(["json", "no_such_library"])
