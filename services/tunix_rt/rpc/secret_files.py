"""Secrets from files: ``TUNIX_RT_NATS_SEED_FILE=/run/secrets/nats.seed`` instead of the seed in the environment.

What is in the environment shows in ``docker inspect`` and in ``/proc``, and every child inherits it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any, get_args

from pydantic import JsonValue, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from tunix_rt.errors import FailedPrecondition

SECRET: dict[str, JsonValue] = {"secret": True}
"""``json_schema_extra`` of a setting that is a secret, but no `SecretStr`."""


class SecretFiles(PydanticBaseSettingsSource):
    """For every secret setting: the content of the file that the variable with the suffix ``_FILE`` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        prefix = str(self.config.get("env_prefix") or "")
        variable = f"{prefix}{field_name}_FILE".upper()
        path = os.environ.get(variable) if _is_secret(field) else None
        if not path:
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            raise FailedPrecondition(f"{variable}: {path} cannot be read: {error}") from error

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class SettingsWithSecrets(BaseSettings):
    """Settings whose secrets may be in files. A variable without the suffix takes precedence."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, SecretFiles(settings_cls)

    def secrets(self) -> list[str]:
        """Every secret that is set, to keep them out of logs."""
        values = {name: getattr(self, name) for name, field in type(self).model_fields.items() if _is_secret(field)}
        texts = (value.get_secret_value() if isinstance(value, SecretStr) else value for value in values.values())
        return [text for text in texts if text]


def _is_secret(field: FieldInfo) -> bool:
    is_marked = isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("secret") is True
    return is_marked or field.annotation is SecretStr or SecretStr in get_args(field.annotation)


def read_or_create_secret(path: Path) -> str:
    """The secret in ``path``; 32 random bytes on first use."""
    return read_or_create(path, secrets.token_urlsafe(32))


def read_or_create(path: Path, fresh: str) -> str:
    """The content of ``path``; ``fresh`` is written there, mode 0600, if there is no such file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="utf-8").strip()
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(fresh + "\n")
    return fresh
