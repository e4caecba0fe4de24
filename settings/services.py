"""Profiles of what a rotation needs beside the edges: PKI, custody, DNS, carriers, prober, payload encryption."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from settings.base import HttpProfile, SecretSource, SettingsModel, Timeout, must_be_https


class VaultAddress(SettingsModel):
    """A Vault-API server (HashiCorp Vault or OpenBao) and how we log in: AppRole or token."""

    address: str
    namespace: str | None = None
    ca_file: Path | None = None
    role_id: str | None = None
    secret_id: SecretSource | None = None
    token: SecretSource | None = None
    timeout: Timeout = timedelta(seconds=5)
    lab: bool = False

    @model_validator(mode="after")
    def _https_outside_a_lab(self) -> Self:
        must_be_https(self.address, "address", lab=self.lab)
        return self

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        approle = self.role_id is not None and self.secret_id is not None
        if approle == (self.token is not None):
            raise ValueError("log in with exactly one of: token, or role_id together with secret_id")
        return self


class VaultPkiProfile(VaultAddress):
    """A PKI secrets engine: `mount` and `role` sign B; `issuing_mounts` are all our mounts, searched to revoke A."""

    kind: Literal["vault"]
    mount: str
    role: str
    issuing_mounts: tuple[str, ...] = ()
    trust_anchor_file: Path = Field(description="PEM of the root(s) that carriers trust")


class VaultKvProfile(VaultAddress):
    """Custody: the key, encrypted by transit, in a KV v2 engine."""

    kind: Literal["vault-kv"]
    kv_mount: str
    prefix: str = "rot"
    transit_mount: str = "transit"
    transit_key: str


class Rfc2136Profile(SettingsModel):
    """A DNS server that takes dynamic updates (RFC 2136) signed with TSIG (RFC 8945), hmac-sha256."""

    kind: Literal["rfc2136"]
    server: str = Field(description="IP address")
    port: Annotated[int, Field(ge=1, le=65535)] = 53
    zone: str
    key_name: str
    key_secret: SecretSource = Field(description="base64")
    timeout: Timeout = timedelta(seconds=3)
    lab: bool = False


class CarrierProfile(HttpProfile):
    """The carrier's SIP health endpoint."""

    kind: Literal["http-health"]
    token: SecretSource
    path: str = "/v1/trunks/{trunk}/tls-health"


class ProbeSettings(SettingsModel):
    """Our own prober."""

    timeout: Timeout = timedelta(seconds=2)
    trust_anchor_file: Path | None = Field(default=None, description="default: the PKI profile's trust anchors")
    client_certificate_file: Path | None = Field(default=None, description="PEM, for trunks that demand one")
    client_key_file: Path | None = None
    rate_per_endpoint: Annotated[float, Field(gt=0)] = Field(default=1.0, description="probes per second")


class CodecSettings(SettingsModel):
    """Payload encryption. `keys` maps key ids to 32-byte AES keys in base64; `current` encrypts, all decrypt."""

    current: str
    keys: Annotated[dict[str, SecretSource], Field(min_length=1)]

    @model_validator(mode="after")
    def _current_is_known(self) -> Self:
        if self.current not in self.keys:
            raise ValueError(f"current = {self.current!r} is not among keys: {', '.join(sorted(self.keys))}")
        return self
