"""Names of the files of a Hugging Face directory, as Transformers knows them."""

from __future__ import annotations

from typing import Final

WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
GENERATION_CONFIG: Final = "generation_config.json"
TOKENIZER: Final = "tokenizer.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
TEMPLATE_FILE: Final = "chat_template.jinja"
# Of named templates besides the default one.
TEMPLATE_DIRECTORY: Final = "additional_chat_templates"
