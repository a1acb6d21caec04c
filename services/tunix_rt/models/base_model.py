"""Which model an adapter was trained on: ``base_model.json`` beside the adapter's own files.

PEFT's ``base_model_name_or_path`` is a name, and a name can come to mean something else: here stands the digest too.
Knows nothing of arrays or of where models come from.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tunix_rt.errors import InvalidArtifact

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_FILE = "base_model.json"
_MAX_FILE_BYTES = 64 << 10


@dataclass(frozen=True)
class BaseModel:
    """``reference`` is what the run was given, ``digest`` that of its content.

    ``uri`` says where the artifact store holds the content; empty when ``reference`` is enough to find it. All three
    are claims of whoever wrote the adapter: a URI is followed only into the store that this installation is set to.
    """

    reference: str
    digest: str
    uri: str = ""

    def __str__(self) -> str:
        return f"{self.reference} ({self.digest})"


def is_adapter(directory: Path) -> bool:
    """Whether ``directory`` holds an adapter and not a whole model."""
    return (directory / ADAPTER_CONFIG).is_file()


def write_base_model(base: BaseModel, directory: Path) -> None:
    """Write ``base`` into an adapter's directory."""
    (directory / _FILE).write_text(json.dumps(asdict(base), sort_keys=True, indent=2) + "\n", encoding="utf-8")


def read_base_model(directory: Path) -> BaseModel:
    """The base of the adapter in ``directory``. Raises `InvalidArtifact` when it does not say it."""
    path = directory / _FILE
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InvalidArtifact(f"{path} has more than {_MAX_FILE_BYTES} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidArtifact(
            f"{path} is missing: only adapters that name their base model with its digest can be loaded"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidArtifact(f"{path} cannot be read: {error}") from error
    fields = document if isinstance(document, dict) else {}
    values = {name: fields.get(name, "") for name in ("reference", "digest", "uri")}
    texts = all(isinstance(value, str) and value.isprintable() for value in values.values())
    if not texts or not (values["reference"] and values["digest"]):
        raise InvalidArtifact(f"{path} must hold the texts reference and digest, and may hold uri")
    return BaseModel(**values)
