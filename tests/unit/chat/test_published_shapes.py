"""Models in the shapes of published repositories are read, whatever their tokenizer has beside the model's table."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fixtures.published_models import PUBLISHED, config_of, write_published

from tunix_rt.errors import InvalidInput
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.reading.worker import ModelReader
from tunix_rt.models.tokenizer import Tokenizer
from tunix_rt.models.vocabulary import eos_ids, unknown_token
from tunix_rt.trainer.engine.rendering import ExampleRenderer


def opened(name: str, directory: Path) -> tuple[ModelConfig, Tokenizer]:
    """What the child process reads, read here."""
    reader = ModelReader()
    reader.describe_directory(str(write_published(name, directory)))
    reader.open_tokenizer()
    return config_of(PUBLISHED[name], reader.tokenizer.fast), reader.tokenizer


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_tokenizer_with_more_or_fewer_ids_than_the_model_loads(name: str, tmp_path: Path) -> None:
    shape = PUBLISHED[name]
    config, tokenizer = opened(name, tmp_path)
    assert tokenizer.vocab_size + shape.spare == config.vocab_size
    ids = tokenizer.encode("Hello there, how are you today?")
    assert tokenizer.decode(ids) == "Hello there, how are you today?"
    assert unknown_token(ids, config.vocab_size, tokenizer.token_text) is None
    found = {tokenizer.token_text(token) for token in eos_ids(tokenizer, config)}
    assert {shape.eos, *shape.config_eos, *shape.generation_eos} <= found


def test_an_id_that_the_model_lacks_is_refused_where_a_text_has_it(tmp_path: Path) -> None:
    config, tokenizer = opened("gemma-3-1b-it", tmp_path)
    rows = config.vocab_size
    assert unknown_token(tokenizer.encode("Hello<end_of_turn>"), rows, tokenizer.token_text) is None
    problem = unknown_token(tokenizer.encode("Hello<image_soft_token>"), rows, tokenizer.token_text)
    assert problem == f"the token '<image_soft_token>' has the id {rows}, which this model of {rows} ids does not have"


def test_training_names_the_dataset_for_a_token_that_the_model_lacks(tmp_path: Path) -> None:
    config, tokenizer = opened("gemma-3-1b-it", tmp_path)
    last = config.vocab_size - 1
    highest = tokenizer.token_text(last)
    conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": highest}]
    ((ids, _),) = ExampleRenderer(tokenizer, config.vocab_size)([conversation])
    assert last in ids
    with pytest.raises(InvalidInput, match=r"the completion of an example .* has the id") as caught:
        list(ExampleRenderer(tokenizer, last)([conversation]))
    assert [violation.field for violation in caught.value.violations] == ["dataset_id"]
