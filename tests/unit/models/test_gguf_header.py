"""Our reading of GGUF headers agrees with the format's own library."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from tunix_rt.models.gguf_tensors import GGUFTensors
from tunix_rt.models.reading.gguf_header import TENSOR_TYPES, read_header


def test_block_sizes_are_those_of_the_library() -> None:
    for number, (name, values, size) in TENSOR_TYPES.items():
        kind = gguf.GGMLQuantizationType(number)
        assert (kind.name, *gguf.GGML_QUANT_SIZES[kind]) == (name, values, size)


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0"])
def test_metadata_and_tensors_are_read_as_the_library_wrote_them(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    values = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    wanted = gguf.GGMLQuantizationType[kind]
    stored = gguf.quantize(values, wanted)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(7)
    writer.add_rope_freq_base(12345.5)
    writer.add_token_list(["a", "é", ""])
    writer.add_token_types([1, 3, 1])
    writer.add_add_bos_token(False)
    writer.add_tensor("first", np.arange(5, dtype=np.float32))
    writer.add_tensor("second", stored, raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(path)
    assert header.metadata["llama.block_count"] == 7
    assert header.metadata["llama.rope.freq_base"] == 12345.5
    assert header.metadata["tokenizer.ggml.tokens"] == ["a", "é", ""]
    assert header.metadata["tokenizer.ggml.token_type"] == [1, 3, 1]
    assert header.metadata["tokenizer.ggml.add_bos_token"] is False
    tensors = GGUFTensors(path, header.tensors)
    assert tensors.names == ["first", "second"]
    assert tensors.read("first").tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(tensors.read("second"), gguf.dequantize(stored, wanted))
