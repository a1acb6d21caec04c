"""The base model of an adapter: ``base_model.json`` in the adapter's directory.

It adds a digest to PEFT's ``base_model_name_or_path``, because the model behind a name can change.
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
    """``reference`` is the reference given to the run, ``digest`` the digest of its content.

    ``uri`` is its location in the artifact store; "" if ``reference`` can be resolved. All three are untrusted: a URI
    is followed only into the configured store.
    """

    reference: str
    digest: str
    uri: str = ""

    def __str__(self) -> str:
        return f"{self.reference} ({self.digest})"


def is_adapter(directory: Path) -> bool:
    """Whether ``directory`` contains an adapter, as opposed to a complete model."""
    return (directory / ADAPTER_CONFIG).is_file()


def has_base_model(directory: Path) -> bool:
    """Whether the adapter in ``directory`` names its base model with a digest."""
    return (directory / _FILE).is_file()


def write_base_model(base: BaseModel, directory: Path) -> Path:
    """Write ``base`` into an adapter's directory; the file."""
    path = directory / _FILE
    path.write_text(json.dumps(asdict(base), sort_keys=True, indent=2) + "\n", encoding="utf-8")
    return path


def read_base_model(directory: Path) -> BaseModel:
    """The base model of the adapter in ``directory``. Raises `InvalidArtifact` if the file is missing or invalid."""
    path = directory / _FILE
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InvalidArtifact(f"{path} has more than {_MAX_FILE_BYTES} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidArtifact(
            f"{path} is missing; an adapter must name its base model and the digest of it; "
            "`tunix-rt models register NAME REFERENCE --base BASE` writes it"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidArtifact(f"{path} cannot be read: {error}") from error
    fields = document if isinstance(document, dict) else {}
    values = {name: fields.get(name, "") for name in ("reference", "digest", "uri")}
    strings = all(isinstance(value, str) and value.isprintable() for value in values.values())
    if not strings or not (values["reference"] and values["digest"]):
        raise InvalidArtifact(f"{path} must have the strings reference and digest, and optionally uri")
    return BaseModel(**values)
