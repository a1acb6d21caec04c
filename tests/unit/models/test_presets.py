"""Presets have the size that their docs promise, and the registry knows exactly those that the models have."""

from __future__ import annotations

import pytest

from tunix_rt.models.presets import PRESETS, train_tokenizer
from tunix_rt.registry.runs import checks as runs


def test_the_registry_accepts_the_presets_that_exist() -> None:
    assert frozenset(PRESETS) == runs.PRESETS


@pytest.mark.parametrize(("name", "low", "high"), [("tiny", 0.7e6, 1e6), ("small", 9e6, 11e6)])
def test_parameter_count_of_a_preset(name: str, low: float, high: float) -> None:
    config = PRESETS[name].config(train_tokenizer(["a small text"], 300))
    largest = config.parameter_count + (PRESETS[name].max_vocab_size - config.vocab_size) * config.hidden_size
    assert low < largest < high
