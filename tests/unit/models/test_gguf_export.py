"""A GGUF file has llama.cpp's names, metadata and layouts; what this project can read of it comes back bit for bit."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import gguf
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from tunix_rt.errors import InvalidInput
from tunix_rt.models.config import ModelConfig, RopeScaling
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.gguf_export import check_gguf, write_gguf
from tunix_rt.models.gguf_vocabulary import read_vocabulary
from tunix_rt.models.kept_settings import KeptSettings
from tunix_rt.models.loading import load_on_host
from tunix_rt.models.parameters import decoder_with
from tunix_rt.models.presets import train_tokenizer
from tunix_rt.models.references import resolve
from tunix_rt.models.tokenizer import SpecialTokens, Tokenizer, added_tokens
from tunix_rt.models.weight_map import Parameters

TOKENIZER = train_tokenizer(["one two three one two"], 270)
SHAPE = {
    "vocab_size": 288,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "eos_token_ids": TOKENIZER.eos_token_ids,
    "pad_token_id": TOKENIZER.pad_token_id,
    "initializer_range": 0.3,
}
SLIDING = ("sliding_attention",) * 5 + ("full_attention",)
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope_scaling": RopeScaling("llama3", 8.0, original_max_position_embeddings=64)},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {},
    "gemma3": {"num_hidden_layers": 6, "layer_types": SLIDING, "sliding_window": 16, "sliding_rope_theta": 10000.0},
    "gpt2": {"num_key_value_heads": 4, "tie_word_embeddings": True},
}


def config_of(family: str = "llama", **changes: Any) -> ModelConfig:
    return ModelConfig(**{**SHAPE, "family": family, **FAMILIES.get(family, {}), **changes})


def drawn(config: ModelConfig) -> Parameters:
    """Random parameters of a decoder with ``config``, by NumPy: nothing is compiled."""
    state = nnx.state(nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0))), nnx.Param)
    draw = np.random.default_rng(3)
    shapes = {".".join(map(str, path)): variable.shape for path, variable in nnx.to_flat_state(state)}
    return {name: draw.normal(scale=0.3, size=shape).astype(np.float32) for name, shape in shapes.items()}


def written(config: ModelConfig, path: Path, dtype: str = "float32", **given: Any) -> Parameters:
    parameters = drawn(config)
    write_gguf(parameters, config, TOKENIZER, path, dtype=dtype, name="tests/1", **given)
    return parameters


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_file_is_read_back_as_the_model_that_it_was_written_from(dtype: str, tmp_path: Path) -> None:
    config = config_of(rope_scaling=RopeScaling("linear", 2.0), tie_word_embeddings=True)
    parameters = written(config, tmp_path / "model.gguf", dtype)
    again = load_on_host(resolve(f"gguf://{tmp_path}/model.gguf", cache_dir=tmp_path))
    text = "one two 12 <|im_end|> x"
    assert again.tokenizer.encode(text) == TOKENIZER.encode(text)
    assert again.tokenizer.chat_template == TOKENIZER.chat_template
    assert again.tokenizer.eos_token_ids == TOKENIZER.eos_token_ids
    again.tokenizer.close()
    for field in ("hidden_size", "head_dim", "rope_theta", "rope_scaling", "norm_epsilon", "vocab_size"):
        assert getattr(again.config, field) == getattr(config, field)
    for name, exact in parameters.items():
        kind = jnp.dtype("float32" if name.endswith("scale") else dtype)
        assert np.array_equal(again.parameters[name], exact.astype(kind).astype(np.float32)), name


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_has_the_name_that_llama_cpp_reads_in_this_family(family: str, tmp_path: Path) -> None:
    config = config_of(family)
    parameters = written(config, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
    known = {
        f"{gguf.TENSOR_NAMES[kind].format(bid=layer)}.{part}"
        for kind in gguf.MODEL_TENSORS[arch]
        for layer in range(config.num_hidden_layers)
        for part in ("weight", "bias")
    }
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert found.keys() <= known
    sizes = sum(int(tensor.n_elements) for name, tensor in found.items() if name != "rope_freqs.weight")
    assert sizes == sum(value.size for value in parameters.values())
    # GGUF lists the innermost axis first: a matrix has its inputs there.
    assert list(found["blk.0.ffn_up.weight"].shape) == [config.hidden_size, config.intermediate_size]
    values = {name: field.contents() for name, field in reader.fields.items()}
    assert values["general.architecture"] == family
    assert values[f"{family}.block_count"] == config.num_hidden_layers
    assert values[f"{family}.attention.head_count"] == 4
    assert values[f"{family}.context_length"] == config.max_position_embeddings
    assert values["tokenizer.ggml.eos_token_id"] == TOKENIZER.eos_token_ids[0]
    assert len(values["tokenizer.ggml.tokens"]) == config.vocab_size
    assert values["tokenizer.ggml.add_bos_token"] is False
    if family == "gpt2":
        assert values["gpt2.attention.layer_norm_epsilon"] == pytest.approx(config.norm_epsilon)
        assert np.array_equal(found["blk.1.attn_qkv.weight"].data, parameters["blocks.attention.c_attn.kernel"][1].T)
    else:
        assert values[f"{family}.rope.freq_base"] == pytest.approx(config.rope_theta)
        assert values[f"{family}.attention.key_length"] == config.head_dim


def test_gemma_norms_are_written_as_llama_cpp_multiplies_by_them(tmp_path: Path) -> None:
    parameters = written(config_of("gemma3"), tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    found = {tensor.name: tensor.data for tensor in reader.tensors}
    assert np.array_equal(found["output_norm.weight"], parameters["norm.scale"] + 1)
    assert np.array_equal(found["blk.3.attn_q_norm.weight"], parameters["blocks.attention.q_norm.scale"][3] + 1)
    assert reader.fields["gemma3.attention.sliding_window"].contents() == 16


def test_llama3_scaling_becomes_divisors_of_frequencies(tmp_path: Path) -> None:
    config = config_of(
        rope_scaling=RopeScaling(
            "llama3", 8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
        )
    )
    written(config, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    (factors,) = (tensor.data for tensor in reader.tensors if tensor.name == "rope_freqs.weight")
    # Wavelengths 2π, 20π, 200π, 2000π in a context of 64: more than 4 times, once and a bit (blended), less than once.
    share = (64 / (20 * np.pi) - 1) / 3
    np.testing.assert_allclose(factors, [1, 1 / ((1 - share) / 8 + share), 8, 8], rtol=1e-5)


def test_named_templates_are_written_by_name(tmp_path: Path) -> None:
    written(config_of(), tmp_path / "model.gguf", kept=KeptSettings(templates={"tool_use": "tools"}))
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    assert fields["tokenizer.chat_template.tool_use"].contents() == "tools"
    assert fields["tokenizer.chat_template"].contents() == TOKENIZER.chat_template


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (config_of("qwen2", layer_types=("sliding_attention",) * 2, sliding_window=8), "config.sliding_window"),
        (config_of("qwen3", attention_bias=True), "config.attention_bias"),
        (config_of("gemma3", query_pre_attn_scalar=64.0), "config.query_pre_attn_scalar"),
        (config_of("gemma3", layer_types=SLIDING[::-1]), "config.layer_types"),
        (config_of(rope_scaling=RopeScaling("dynamic", 2.0)), "config.rope_scaling"),
        (config_of(rope_scaling=RopeScaling("yarn", 2.0, beta_fast=20.0)), "config.rope_scaling"),
        (config_of("qwen3", rope_scaling=RopeScaling("llama3", 2.0)), "config.rope_scaling"),
    ],
)
def test_what_llama_cpp_would_read_otherwise_is_refused_by_field(config: ModelConfig, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_gguf(config)
    assert [violation.field for violation in caught.value.violations] == [field]


def sentencepiece_like() -> FastTokenizer:
    """As TinyLlama's tokenizer.json: a space before a text, bytes for unknown characters."""
    merges = [("t", "w"), ("tw", "o"), ("\u2581", "o"), ("\u2581", "two"), ("n", "e"), ("\u2581o", "ne"), ("w", "o")]
    letters = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"twoneh"]
    vocabulary = letters + ["".join(pair) for pair in merges]
    fast = FastTokenizer(
        models.BPE(
            {token: index for index, token in enumerate(vocabulary)}, merges, unk_token="<unk>", byte_fallback=True
        )
    )
    fast.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    fast.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    fast.add_special_tokens(added_tokens(["<unk>", "<s>", "</s>"], special=True))
    return fast


def by_scores(text: str, tokens: list[str], scores: list[float]) -> list[str]:
    """llama.cpp's SentencePiece merging: of all neighbours the pair with the best score, the first of equals."""
    parts = list(text)
    while True:
        known = [
            (-scores[tokens.index(a + b)], at) for at, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in tokens
        ]
        if not known:
            return parts
        at = min(known)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def test_scores_of_a_sentencepiece_vocabulary_make_the_merges_of_its_tokenizer() -> None:
    fast = sentencepiece_like()
    found = read_vocabulary(json.loads(fast.to_str()), fast.get_vocab_size())
    assert (found.model, found.space_prefix) == ("llama", True)
    kinds = [found.types[fast.token_to_id(token)] for token in ("<unk>", "</s>", "<0x0A>", "\u2581two")]
    kind = gguf.TokenType
    assert kinds == [kind.UNKNOWN, kind.CONTROL, kind.BYTE, kind.NORMAL]
    for text in ("one two", "two one", "won two", "oneone", "newton two", "w o n"):
        expected = fast.encode(text, add_special_tokens=False).tokens
        assert by_scores("\u2581" + text.replace(" ", "\u2581"), list(found.tokens), list(found.scores)) == expected


def test_ids_without_a_row_are_left_out_and_rows_without_an_id_are_unused() -> None:
    document = json.loads(TOKENIZER.document())
    ids = TOKENIZER.vocab_size
    larger = read_vocabulary(document, ids + 2)
    assert list(larger.tokens[ids:]) == [f"[PAD{ids}]", f"[PAD{ids + 1}]"]
    assert larger.types[-1] == gguf.TokenType.UNUSED
    assert len(read_vocabulary(document, ids - 1).tokens) == ids - 1


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([pre_tokenizers.ByteLevel(add_prefix_space=False)], "gpt-2"),
        (
            [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)],
            "llama-bpe",
        ),
        (
            [
                pre_tokenizers.Split(Regex(LLAMA3.replace("{1,3}", "")), "isolated"),
                pre_tokenizers.ByteLevel(False, use_regex=False),
            ],
            "qwen2",
        ),
    ],
)
def test_splittings_have_the_names_that_llama_cpp_gives_them(steps: list[Any], name: str) -> None:
    fast = FastTokenizer.from_str(TOKENIZER.document())
    fast.pre_tokenizer = pre_tokenizers.Sequence(steps)
    assert read_vocabulary(json.loads(fast.to_str()), 288).pre == name


def test_a_splitting_without_a_name_is_refused(tmp_path: Path) -> None:
    fast = FastTokenizer.from_str(TOKENIZER.document())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    odd = Tokenizer(fast, SpecialTokens("<|im_end|>", "<|endoftext|>"), None)
    config = config_of()
    with pytest.raises(InvalidInput, match=r"format: llama\.cpp has no name for this way of splitting"):
        write_gguf({}, config, odd, tmp_path / "model.gguf", dtype="float32", name="odd")
    assert not (tmp_path / "model.gguf").exists()


def test_llama_cpp_continues_as_this_model_does(tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    config = config_of(rope_scaling=RopeScaling(), tie_word_embeddings=True)
    decoder = decoder_with(config, written(config, tmp_path / "model.gguf"))
    prompt = TOKENIZER.encode("one two three")
    ours = list(prompt)
    for _ in range(8):
        tokens = jnp.asarray([ours], jnp.int32)
        logits = decoder(tokens, jnp.arange(len(ours), dtype=jnp.int32)[None])
        ours.append(int(jnp.argmax(logits[0, -1])))
    peer = llama_cpp.Llama(str(tmp_path / "model.gguf"), n_ctx=64, verbose=False)
    theirs = list(prompt)
    for token in peer.generate(prompt, temp=0.0):
        theirs.append(token)
        if len(theirs) == len(ours):
            break
    assert theirs == ours
