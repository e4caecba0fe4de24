"""The settings as a whole, from a TOML file and the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from domain.errors import SettingsInvalid
from domain.validation import describe_problems
from settings.clouds import CxoneProfile, GenesysObserverProfile, GenesysProfile
from settings.metrics import MetricsProfile
from settings.notify import NotifyProfile
from settings.ntp import NtpSettings
from settings.own_edges import HaproxyProfile, KamailioProfile
from settings.services import (
    CarrierProfile,
    CodecSettings,
    ProbeSettings,
    Rfc2136Profile,
    VaultKvProfile,
    VaultPkiProfile,
)

SETTINGS_VARIABLE = "SIP_ROTATE_SETTINGS"

PlatformProfile = Annotated[
    GenesysProfile | CxoneProfile | KamailioProfile | HaproxyProfile, Field(discriminator="kind")
]


class Settings(BaseSettings):
    """Everything a worker needs to know; the starter reads `codec` and `identity` from the same file."""

    model_config = SettingsConfigDict(env_prefix="SIP_ROTATE__", env_nested_delimiter="__", extra="forbid", frozen=True)

    codec: CodecSettings
    platforms: dict[str, PlatformProfile] = {}
    pki: dict[str, VaultPkiProfile] = {}
    keys: dict[str, VaultKvProfile] = {}
    dns: dict[str, Rfc2136Profile] = {}
    carriers: dict[str, CarrierProfile] = {}
    observers: dict[str, GenesysObserverProfile] = {}
    metrics: dict[str, MetricsProfile] = {}
    notify: dict[str, NotifyProfile] = {}
    probe: ProbeSettings = ProbeSettings()
    ntp: NtpSettings | None = None
    identity: str | None = Field(default=None, description="who approves; default: the operating-system user")
    web_ui: str | None = Field(default=None, description="base URL of the Temporal Web UI, for links")

    def page_of(self, namespace: str, workflow_id: str, run_id: str) -> str | None:
        """A workflow's page in the Web UI, if the settings say where that is."""
        if self.web_ui is None:
            return None
        parts = (quote(part, safe="") for part in (namespace, workflow_id, run_id))
        return self.web_ui.rstrip("/") + "/namespaces/{}/workflows/{}/{}".format(*parts)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment above file; nothing else."""
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _settings_path()))


def _settings_path() -> Path:
    return Path(os.environ.get(SETTINGS_VARIABLE, "settings.toml"))


def load_settings(path: Path | None = None, **overrides: Any) -> Settings:
    """The settings from `path` (default `$SIP_ROTATE_SETTINGS`, then `settings.toml`) and the environment.

    Raises `SettingsInvalid` that names every wrong field.
    """
    if path is not None:
        os.environ[SETTINGS_VARIABLE] = str(path)
    source = _settings_path()
    if not source.exists():
        raise SettingsInvalid(
            "the settings file does not exist", where=str(source), action=f"set {SETTINGS_VARIABLE} or pass --settings"
        )
    try:
        text = source.read_text(encoding="utf-8")
        return Settings(**overrides)
    except ValidationError as error:
        problems = describe_problems(error, Settings, text)
        raise SettingsInvalid("the settings are not valid:\n  " + "\n  ".join(problems), where=str(source)) from None
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"the settings cannot be read: {error}", where=str(source)) from None
