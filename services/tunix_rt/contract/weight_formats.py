"""The forms in which an inferencer holds a model's weights: what `GenerationConfig.weight_format` may say.

A format is part of a score's identity. Its name carries a version: whatever changes an answer's bits is another name.

- ``""``: float32.
- ``"int8-v1"``: every linear layer and the output table as int8 with one float32 scale per output (per token of the
  table), max|w| / 127; symmetric, rounded half to even. What goes into such a product is rounded to 16 bits, row by
  row (a row is one token's activations): int8 in steps of max|x| / 127, and what that left over in 254ths of a step.
  Both are multiplied in int8, summed exactly in int32, then scaled and added in float32. Embedding rows, norms, biases,
  attention, a router of experts, adapters and the cache stay float32. Made by `tunix_rt.models.quantized`.
"""

from __future__ import annotations

from typing import Final

INT8_V1: Final = "int8-v1"
WEIGHT_FORMATS: Final = ("", INT8_V1)
