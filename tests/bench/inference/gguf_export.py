"""Our weights as GGUF files, so that llama.cpp runs the very same model: float32, and its own q8_0.

Token ids go in and come out, so that the file's tokenizer is none ("no_vocab"). Heads of rotary queries and keys are
interleaved as llama.cpp's converter does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.parameters import parameters_of
from tunix_rt.models.weight_map import rows_of

FILES: Mapping[str, str] = {"f32": "model-f32.gguf", "q8_0": "model-q8_0.gguf"}


def export_gguf(decoder: Decoder, config: ModelConfig, directory: Path) -> None:
    """Write every file of `FILES`. Raises `ValueError` for a family or scaling that this does not know."""
    if config.family != "llama" or config.rope_scaling.rope_type != "default":
        raise ValueError(f"no GGUF export of family {config.family} with {config.rope_scaling.rope_type} rope")
    tensors = _tensors(decoder, config)
    for kind, name in FILES.items():
        _write(tensors, config, directory / name, quantised=kind == "q8_0")


def _tensors(decoder: Decoder, config: ModelConfig) -> dict[str, np.ndarray]:
    """[out, in] f32 by GGUF name."""
    parameters = parameters_of(decoder)
    heads = {"query": config.num_attention_heads, "key": config.num_key_value_heads}
    tensors = {}
    for row in rows_of(config):
        value = parameters[row.parameter]
        layers = list(value) if "{layer}" in row.gguf else [value]
        for layer, part in enumerate(layers):
            tensor = part.T if row.transposed else part
            if row.interleaved is not None:
                tensor = _interleave(tensor, heads[row.interleaved])
            tensors[row.gguf.format(layer=layer)] = np.ascontiguousarray(tensor, np.float32)
    return tensors


def _interleave(tensor: np.ndarray, heads: int) -> np.ndarray:
    """[out, in], from Hugging Face's halves of a head to pairs side by side."""
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, -1)
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def _write(tensors: Mapping[str, np.ndarray], config: ModelConfig, path: Path, *, quantised: bool) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if quantised else gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("no_vocab")
    for name, tensor in tensors.items():
        if quantised and tensor.ndim > 1:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(tensor, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
