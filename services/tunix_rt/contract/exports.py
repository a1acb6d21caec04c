"""How a model is written for other programs: the types and formats of its weights, and the size of a file."""

from __future__ import annotations

import re
from typing import Final

from tunix_rt.contract.rules import Rule

EXPORT_DTYPES: Final = ("float32", "bfloat16", "float16")
SAFETENSORS, GGUF = "safetensors", "gguf"
DTYPE: Final = Rule(str, "float32", choices=EXPORT_DTYPES, help="Type of the exported weights.")
FORMAT: Final = Rule(str, SAFETENSORS, choices=(SAFETENSORS, GGUF), help="Format of the exported weights.")
# Transformers' save_pretrained has long split at this size.
MAX_SHARD_SIZE: Final = "5GB"

_SIZE: Final = re.compile(r"(\d{1,12})\s*(B|KB|MB|GB|KiB|MiB|GiB)?")
_UNITS: Final = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}  # fmt: skip


def shard_bytes(text: str) -> int:
    """The bytes of a size such as ``5GB`` or ``500MiB``, as Transformers reads ``max_shard_size``.

    Raises `ValueError` for anything else, and for zero.
    """
    found = _SIZE.fullmatch(text.strip())
    size = int(found[1]) * _UNITS[found[2] or ""] if found else 0
    if size <= 0:
        raise ValueError(f"{text!r} is not a size; expected a number of bytes, or one with KB, MB, GB, KiB, MiB or GiB")
    return size
