"""How large the parts of a model may be. Generous for real models, and checked before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MIB: Final = 1 << 20

# Bytes of files that are parsed. The largest tokenizer known (262k tokens) has 33 MiB.
MAX_CONFIG_BYTES: Final = 4 * MIB
MAX_INDEX_BYTES: Final = 32 * MIB
MAX_TOKENIZER_BYTES: Final = 96 * MIB
MAX_TEMPLATE_BYTES: Final = 1 * MIB
# Of a safetensors file's header.
MAX_HEADER_BYTES: Final = 32 * MIB
# Of a GGUF file's metadata and tensor table.
MAX_GGUF_HEADER_BYTES: Final = 128 * MIB
MAX_TENSORS: Final = 100_000
MAX_METADATA_KEYS: Final = 10_000
MAX_TOKEN_BYTES: Final = 2_048

# Fields of `ModelConfig`.
MAX_SIZES: Final[Mapping[str, int]] = {
    "vocab_size": 1 << 21,
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 20,
    "num_hidden_layers": 1024,
    "num_attention_heads": 4096,
    "num_key_value_heads": 4096,
    "head_dim": 1 << 14,
    "max_position_embeddings": 1 << 25,
    "num_experts": 4096,
    "num_experts_per_tok": 4096,
    "moe_intermediate_size": 1 << 20,
}
# The engine has room for them and for as many of a request.
MAX_EOS_IDS: Final = 16
MAX_LORA_RANK: Final = 4096
# Of an adapter's config: names of modules in one option, such as every linear layer of every block by its full name.
MAX_MODULE_NAMES: Final = 8192
