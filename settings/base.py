"""What all profiles are made of: strict models, sources of secrets, durations, and how an HTTP API is reached."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from domain.errors import SettingsInvalid
from domain.plan import Duration


class SettingsModel(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretSource(SettingsModel):
    """Where a secret comes from: an environment variable or a file; exactly one of them."""

    env: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError('a secret names exactly one source: { env = "NAME" } or { file = "/path" }')
        return self

    def read(self, field: str) -> SecretStr:
        """The secret itself. Raises `SettingsInvalid` that names the field and the source, never the value."""
        if self.env is not None:
            value = os.environ.get(self.env, "")
            if not value:
                raise SettingsInvalid(
                    "the secret is missing", where=field, seen=f"{self.env} is not set", action=f"export {self.env}"
                )
            return SecretStr(value)
        assert self.file is not None
        try:
            value = self.file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsInvalid(
                "the secret file cannot be read", where=field, seen=f"{self.file}: {error.strerror}"
            ) from None
        if not value:
            raise SettingsInvalid("the secret file is empty", where=field, seen=str(self.file))
        return SecretStr(value)


def must_be_https(url: str, field: str, *, lab: bool) -> None:
    if not url.startswith("https://") and not (lab and url.startswith("http://")):
        raise ValueError(f"{field} must be https:// (http:// is for profiles marked lab = true), seen {url!r}")


def _must_be_absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"the directory must be an absolute path, seen {str(path)!r}")
    return path


Timeout = Annotated[Duration, Field(gt=timedelta(0))]
"""Of one request; an activity makes up to four of them within its 8 s."""


AbsolutePath = Annotated[Path, AfterValidator(_must_be_absolute)]


class HttpProfile(SettingsModel):
    """How an HTTP API is reached. Plain http is accepted for profiles marked `lab = true` only."""

    base_url: str
    ca_file: Path | None = Field(default=None, description="CA bundle that signs the API's own certificate")
    timeout: Timeout = timedelta(seconds=2)
    lab: bool = False

    @model_validator(mode="after")
    def _https_outside_a_lab(self) -> Self:
        must_be_https(self.base_url, "base_url", lab=self.lab)
        return self
