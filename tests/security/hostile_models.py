"""Hostile models, each made from a small good one by one change: what a person could download and load."""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from tunix_rt.models.base_model import BaseModel, write_base_model
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.export import export_hugging_face
from tunix_rt.models.presets import train_tokenizer

LAYERS, HIDDEN = 2, 16
_TEXTS = ["what is two and three ? <answer> five </answer>"] * 8
Change = Callable[[Path], None]


@dataclass(frozen=True)
class Hostile:
    """``change`` is made to a copy of the good model, or writes a GGUF file. ``says`` is part of the error.

    ``when`` it is refused: at LoadModel, or at a chat with the loaded model. ``slow``: it takes its limit of time.
    """

    name: str
    change: Change
    says: str
    when: str = "load"
    slow: bool = False


def good_model(directory: Path) -> None:
    """A random model of a few thousand parameters."""
    tokenizer = train_tokenizer(_TEXTS, 300)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=HIDDEN,
        intermediate_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_ids=tokenizer.eos_token_ids,
    )
    decoder = Decoder(config, rngs=nnx.Rngs(jax.random.key(0)))
    export_hugging_face(decoder, config, tokenizer, directory)


def prepare(case: Hostile, good: Path, place: Path) -> str:
    """Make the case below ``place``; its reference."""
    directory = place / case.name
    if case.name.startswith("gguf_"):
        directory.mkdir()
        case.change(directory / "model.gguf")
        return f"gguf://{directory}/model.gguf"
    shutil.copytree(good, directory)
    case.change(directory)
    return directory.as_uri()


def edit(name: str, **fields: Any) -> Change:
    """Set fields of a JSON file."""

    def change(directory: Path) -> None:
        path = directory / name
        document = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(document | fields), encoding="utf-8")

    return change


def config(**fields: Any) -> Change:
    return edit("config.json", **fields)


def tokenizer(**fields: Any) -> Change:
    return edit("tokenizer.json", **fields)


def template(text: str) -> Change:
    return edit("tokenizer_config.json", chat_template=text)


def content(name: str, data: bytes | str) -> Change:
    def change(directory: Path) -> None:
        (directory / name).write_bytes(data.encode() if isinstance(data, str) else data)

    return change


def without(name: str) -> Change:
    return lambda directory: (directory / name).unlink()


def cut(name: str, size: int) -> Change:
    def change(directory: Path) -> None:
        path = directory / name
        path.write_bytes(path.read_bytes()[:size])

    return change


def safetensors_header(header: Any, length: int | None = None, data: bytes = b"") -> Change:
    """Weights with this header."""
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    size = len(text) if length is None else length
    return content("model.safetensors", struct.pack("<Q", size) + text + data)


def link(name: str, target: str) -> Change:
    def change(directory: Path) -> None:
        (directory / name).unlink(missing_ok=True)
        (directory / name).symlink_to(target)

    return change


def adapter(base: Callable[[Path], BaseModel], **settings: Any) -> Change:
    """An adapter whose base is what ``base`` says of its directory."""

    def change(directory: Path) -> None:
        (directory / "model.safetensors").rename(directory / "adapter_model.safetensors")
        document = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]} | settings
        (directory / "adapter_config.json").write_text(json.dumps(document), encoding="utf-8")
        write_base_model(base(directory), directory)

    return change


def deep(depth: int, left: str = "[", right: str = "]") -> str:
    return left * depth + right * depth


# --- GGUF ---


def text_of(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text_of(key) + struct.pack("<I", kind) + value


def gguf(*pairs: bytes, tensors: int = 0, keys: int | None = None, version: int = 3, rest: bytes = b"") -> Change:
    """A GGUF file with these metadata pairs; ``keys`` and ``tensors`` are what it declares."""
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, len(pairs) if keys is None else keys)
    return lambda path: path.write_bytes(head + b"".join(pairs) + rest) and None


_LLAMA = pair("general.architecture", 8, text_of("llama"))


def number(key: str, value: int) -> bytes:
    return pair(key, 10, struct.pack("<Q", value))


def strings(key: str, values: list[str]) -> bytes:
    return pair(key, 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(text_of, values)))


def small_gguf(layers: int = 2, **more: int) -> list[bytes]:
    sizes = {"block_count": layers, "embedding_length": 16, "feed_forward_length": 32, "attention.head_count": 2} | more
    return [
        _LLAMA,
        *(number(f"llama.{key}", value) for key, value in sizes.items()),
        strings("tokenizer.ggml.tokens", ["a", "b"]),
    ]


def good_gguf(path: Path) -> None:
    """The good model's shape with zeros for weights, as a GGUF file."""
    trained = train_tokenizer(_TEXTS, 300)
    model = json.loads(trained.fast.to_str())["model"]
    tokens = [trained.fast.id_to_token(token) for token in range(trained.vocab_size)]
    sizes = {"block_count": LAYERS, "embedding_length": HIDDEN, "feed_forward_length": 32, "attention.head_count": 2}
    ids = {"eos": trained.eos_token_ids[0], "padding": trained.pad_token_id}
    pairs = [
        _LLAMA,
        *(number(f"llama.{key}", value) for key, value in sizes.items()),
        number("llama.context_length", 256),
        pair("tokenizer.ggml.model", 8, text_of("gpt2")),
        pair("tokenizer.ggml.pre", 8, text_of("smollm")),
        strings("tokenizer.ggml.tokens", tokens),
        strings("tokenizer.ggml.merges", [" ".join(merge) for merge in model["merges"]]),
        pair(
            "tokenizer.ggml.token_type",
            9,
            struct.pack("<IQ", 5, len(tokens))
            + b"".join(struct.pack("<i", 3 if token.startswith("<|") else 1) for token in tokens),
        ),
        *(number(f"tokenizer.ggml.{role}_token_id", token) for role, token in ids.items()),
        pair("tokenizer.chat_template", 8, text_of(trained.chat_template or "")),
    ]
    shapes = {"token_embd.weight": (len(tokens), HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{name}.weight": (HIDDEN,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {f"blk.{layer}.attn_{name}.weight": (HIDDEN, HIDDEN) for name in ("q", "k", "v", "output")}
        shapes |= {f"blk.{layer}.ffn_{name}.weight": (32, HIDDEN) for name in ("gate", "up")}
        shapes[f"blk.{layer}.ffn_down.weight"] = (HIDDEN, 32)
    table, at = b"", 0
    for name, shape in shapes.items():
        table += text_of(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), 0, at)
        at += -(-4 * math.prod(shape) // 32) * 32
    gguf(*pairs, tensors=len(shapes), rest=table)(path)
    path.write_bytes(path.read_bytes().ljust(-(-path.stat().st_size // 32) * 32, b"\0") + bytes(at))


_LONG_REPLACE = {"type": "Replace", "pattern": {"String": "e"}, "content": "eeeeeeeeee"}
_TOKEN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}


def long_token(directory: Path) -> None:
    path = directory / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["added_tokens"].append({"id": len(document["model"]["vocab"]), "content": "x" * 100_000, **_TOKEN})
    path.write_text(json.dumps(document), encoding="utf-8")


def far_token(directory: Path) -> None:
    path = directory / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = document["model"]["vocab"]
    vocabulary[max(vocabulary, key=vocabulary.get)] = 1_000_000
    path.write_text(json.dumps(document), encoding="utf-8")


CORPUS = [
    # config.json
    Hostile("config_billion_layers", config(num_hidden_layers=1_000_000_000), "num_hidden_layers"),
    Hostile("config_huge_vocabulary", config(vocab_size=2_000_000_000), "vocab_size"),
    Hostile("config_huge_hidden", config(hidden_size=1 << 40), "hidden_size"),
    Hostile("config_large_but_allowed", config(hidden_size=1 << 16, num_hidden_layers=1000), "MiB"),
    Hostile("config_negative", config(num_attention_heads=-2), "num_attention_heads"),
    Hostile("config_zero_heads", config(num_attention_heads=0), "num_attention_heads"),
    Hostile("config_float_size", config(hidden_size=16.5), "hidden_size"),
    Hostile("config_text_size", config(vocab_size="300"), "vocab_size"),
    Hostile("config_nan_epsilon", config(rms_norm_eps=float("nan")), "rms_norm_eps"),
    Hostile("config_infinite_theta", config(rope_theta=float("inf")), "rope_theta"),
    Hostile("config_integer_beyond_float", config(rope_theta=10**400), "rope_theta"),
    Hostile("config_rope_factor", config(rope_scaling={"rope_type": "linear", "factor": -1e300}), "rope_scaling"),
    Hostile("config_million_eos", config(eos_token_id=list(range(300)) * 1000), "eos_token_id"),
    Hostile("config_eos_outside", config(eos_token_id=1 << 70), "eos_token_id"),
    Hostile("config_runs_code", config(auto_map={"AutoModel": "evil.Model"}, trust_remote_code=True), ""),
    Hostile("config_unknown_type", config(model_type="../../etc/passwd"), "model_type"),
    Hostile("config_deep", content("config.json", '{"a":' + deep(200_000) + "}"), "is not JSON"),
    Hostile("config_long_integer", content("config.json", '{"vocab_size": ' + "9" * 100_000 + "}"), "is not JSON"),
    Hostile("config_five_megabytes", content("config.json", '{"a": "' + "a" * 5_000_000 + '"}'), "more than"),
    Hostile("config_list", content("config.json", "[]"), "JSON object"),
    Hostile("config_binary", content("config.json", bytes(range(256))), "cannot be read"),
    Hostile("config_empty", content("config.json", ""), "is not JSON"),
    Hostile("config_many_fields", config(**{f"field_{i}": i for i in range(50_000)}), ""),
    Hostile("config_link_out", link("config.json", "/etc/passwd"), "is a link"),
    # weights
    Hostile("weights_missing", without("model.safetensors"), "neither model.safetensors nor"),
    Hostile("weights_cut", cut("model.safetensors", 5_000), "cannot be read"),
    Hostile("weights_empty", content("model.safetensors", ""), "cannot be read"),
    Hostile("weights_header_length", safetensors_header({}, length=1 << 60), "header of"),
    Hostile("weights_header_large", safetensors_header({}, length=90_000_000), "header of"),
    Hostile("weights_header_deep", safetensors_header(b'{"a":' + deep(100_000).encode() + b"}"), "cannot be read"),
    Hostile(
        "weights_overflowing_shape",
        safetensors_header({"a": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]}}, data=b"0000"),
        "cannot be read",
    ),
    Hostile(
        "weights_many_names",
        safetensors_header({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(150_000)}),
        "tensors",
    ),
    Hostile("weights_link_out", link("model.safetensors", "/etc/hostname"), "is a link"),
    Hostile("weights_pickle", content("pytorch_model.bin", b"\x80\x04cos\nsystem\n(S'true'\ntR."), ""),
    Hostile(
        "index_climbs",
        lambda d: (
            without("model.safetensors")(d),
            content("model.safetensors.index.json", '{"weight_map": {"a": "../../secret.safetensors"}}')(d),
        )[-1],
        "not a file beside it",
    ),
    Hostile(
        "index_deep",
        lambda d: (
            without("model.safetensors")(d),
            content("model.safetensors.index.json", '{"weight_map":' + deep(200_000) + "}")(d),
        )[-1],
        "is not JSON",
    ),
    # adapters
    Hostile(
        "adapter_of_itself",
        adapter(lambda directory: BaseModel(directory.as_uri(), f"sha256:{'0' * 64}")),
        "must be a complete model",
    ),
    Hostile(
        "adapter_deep_base",
        lambda d: (
            adapter(lambda _: BaseModel("file:///x", f"sha256:{'0' * 64}"))(d),
            content("base_model.json", '{"reference":' + deep(30_000) + "}")(d),
        )[-1],
        "cannot be read",
    ),
    Hostile(
        "adapter_of_a_secret_place",
        adapter(lambda _: BaseModel("file:///etc", f"sha256:{'0' * 64}")),
        "TUNIX_RT_MODEL_ROOTS",
    ),
    # tokenizers
    Hostile("tokenizer_missing", without("tokenizer.json"), "tokenizer.json"),
    Hostile("tokenizer_deep", content("tokenizer.json", deep(100_000)), "cannot be read"),
    Hostile("tokenizer_no_model", tokenizer(model={"type": "Evil"}), "cannot be read"),
    Hostile("tokenizer_long_token", long_token, "token of"),
    Hostile("tokenizer_surplus_ids", config(vocab_size=20), "config"),
    Hostile(
        "tokenizer_decoder_explodes",
        tokenizer(decoder={"type": "Sequence", "decoders": [_LONG_REPLACE] * 9}),
        "times longer",
    ),
    Hostile(
        "tokenizer_decoder_regex",
        tokenizer(decoder={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "a"}),
        "regular expression",
    ),
    Hostile(
        "tokenizer_many_eos", edit("generation_config.json", eos_token_id=list(range(20, 60))), "end-of-sequence tokens"
    ),
    Hostile("tokenizer_ids_with_gaps", far_token, ""),
    Hostile("tokenizer_eos_beyond", edit("generation_config.json", eos_token_id=1 << 31), ""),
    Hostile("tokenizer_eos_missing", edit("tokenizer_config.json", eos_token="<|nowhere|>"), "<|nowhere|>"),
    Hostile(
        "tokenizer_template_list", edit("tokenizer_config.json", chat_template=[{"name": "default"}]), "chat", "chat"
    ),
    Hostile("tokenizer_template_number", edit("tokenizer_config.json", chat_template=7), "not a text"),
    Hostile("template_large", content("chat_template.jinja", "a" * 3_000_000), "more than"),
    # GGUF
    Hostile("gguf_array_length", gguf(pair("a", 9, struct.pack("<IQ", 4, 1 << 50))), "longer than the file"),
    Hostile("gguf_string_length", gguf(struct.pack("<Q", 1 << 62) + b"abc"), "middle of its header"),
    Hostile("gguf_key_count", gguf(keys=1 << 60), "declares"),
    Hostile("gguf_tensor_count", gguf(_LLAMA, tensors=1 << 60), "declares"),
    Hostile("gguf_nested_arrays", gguf(pair("a", 9, struct.pack("<IQ", 9, 1) * 50_000)), "array of arrays"),
    Hostile("gguf_unknown_type", gguf(pair("a", 99, b"")), "unknown type 99"),
    Hostile("gguf_twice", gguf(_LLAMA, _LLAMA), "twice"),
    Hostile("gguf_empty", gguf(rest=b""), "general.architecture"),
    Hostile("gguf_version", gguf(version=77), "version 77"),
    Hostile("gguf_big_endian", lambda path: path.write_bytes(b"FUGG" + bytes(64)) and None, "begin with GGUF"),
    Hostile("gguf_zero_bytes", lambda path: path.write_bytes(b"") and None, "GGUF"),
    Hostile("gguf_billion_layers", gguf(*small_gguf(1_000_000_000)), "num_hidden_layers"),
    Hostile("gguf_bad_alignment", gguf(*small_gguf(), number("general.alignment", 3)), "alignment"),
    Hostile("gguf_not_utf8", gguf(pair("a", 8, struct.pack("<Q", 2) + b"\xff\xfe")), "GGUF"),
    Hostile("gguf_no_tensors", gguf(*small_gguf()), "missing"),
    Hostile(
        "gguf_million_empty_strings",
        gguf(pair("a", 9, struct.pack("<IQ", 8, 1_000_000) + bytes(8_000_000))),
        "general.architecture",
    ),
    Hostile(
        "gguf_tensor_outside",
        gguf(
            *small_gguf(),
            tensors=1,
            rest=text_of("token_embd.weight") + struct.pack("<IQQIQ", 2, 1 << 30, 1 << 30, 0, 1 << 40),
        ),
        "ends after the file",
    ),
    # templates and tokenizers that are refused when they are used
    Hostile(
        "template_loops",
        template("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        "chat template",
        "chat",
    ),
    Hostile("template_pads", template("{{ '%999999999s' % 'a' }}"), "chat template", "chat"),
    Hostile("template_multiplies", template("{{ 'abcdefgh' * 999999999 }}"), "chat template", "chat"),
    Hostile("template_long", template("{{ 'abcdefgh' * 100000 }}"), "characters of a conversation", "chat"),
    Hostile("template_power", template("{{ 9 ** (9 ** 9) }}"), "chat template", "chat"),
    Hostile("template_recurses", template("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}"), "chat template", "chat"),
    Hostile("template_escapes", template("{{ ''.__class__.__mro__[1].__subclasses__() }}"), "chat template", "chat"),
    Hostile("template_reads_files", template("{% include '/etc/passwd' %}"), "chat template", "chat"),
    Hostile("template_syntax", template("{% for %}"), "chat template", "chat"),
    Hostile("template_nested", template("{{ " + deep(5_000, "(", ")") + " }}"), "chat template", "chat"),
    Hostile(
        "tokenizer_normalizer_explodes",
        tokenizer(normalizer={"type": "Sequence", "normalizers": [_LONG_REPLACE] * 9}),
        "tokenizer",
        "chat",
    ),
    Hostile(
        "tokenizer_regex_backtracks",
        tokenizer(
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": "(a+)+$"},
                "behavior": "Isolated",
                "invert": False,
            }
        ),
        "tokenizer",
        "chat",
    ),
]
