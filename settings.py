"""The worker's settings: named profiles for platforms, PKI, keys, DNS, carriers and notifications.

A TOML file (`SIP_ROTATE_SETTINGS`, default `settings.toml`) with environment variables on top
(`SIP_ROTATE__PLATFORMS__EU__BASE_URL=…`). A secret is never written here: each names where it comes from,
`{ env = "NAME" }` or `{ file = "/path" }`.
"""

from __future__ import annotations

import os
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from domain.errors import SettingsInvalid
from domain.plan import Duration, PositiveDuration
from domain.validation import describe_problems

SETTINGS_VARIABLE = "SIP_ROTATE_SETTINGS"


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


def _must_be_https(url: str, field: str, *, lab: bool) -> None:
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
        _must_be_https(self.base_url, "base_url", lab=self.lab)
        return self


class LocalDirectory(SettingsModel):
    """A directory on the worker's own host, as where a worker runs beside its edge."""

    kind: Literal["local"]
    directory: AbsolutePath


class SftpDirectory(SettingsModel):
    """A directory on another host, through SFTP. The host proves a known key; ours is in a file or with an agent."""

    kind: Literal["sftp"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    user: str
    key_file: Path | None = Field(default=None, description="unencrypted private key; default: the agent's keys")
    known_hosts_file: Path = Field(description="public keys of the host, in the format of OpenSSH")
    directory: Annotated[str, Field(pattern="^/")]
    timeout: Timeout = timedelta(seconds=2)


FilesSource = Annotated[LocalDirectory | SftpDirectory, Field(discriminator="kind")]


class PrometheusSource(HttpProfile):
    """A Prometheus server that scrapes the edges' counters; `base_url` is what stands before `/api/v1`."""

    token: SecretSource | None = Field(default=None, description="bearer token, for a proxy in front")


class GenesysPaths(SettingsModel):
    """Paths of the guide's Genesys requests and of those defined beside them (docs/platform-contract.md)."""

    token: str = "/oauth/token"
    certificates: str = "/api/v2/platform/certificates"
    certificate: str = "/api/v2/platform/certificates/{certificate_id}"
    trunks: str = "/api/v2/telephony/providers/edge/edge/{edge_id}/siptrunks"
    trunk: str = "/api/v2/telephony/providers/edge/edge/{edge_id}/siptrunks/{trunk_id}"
    ticket_flush: str = "/api/v2/telephony/providers/edge/edge/{edge_id}/siptrunks/{trunk_id}/tlsticketcache/flush"
    close_connections: str = "/api/v2/telephony/providers/edge/edge/{edge_id}/siptrunks/{trunk_id}/tlsconnections/close"
    metrics: str = "/api/v2/telephony/providers/edge/edge/{edge_id}/siptrunks/{trunk_id}/tlsmetrics"
    health: str = "/api/v2/telephony/providers/edge/edge/{edge_id}/health"


class GenesysLogin(HttpProfile):
    """A Genesys Cloud organisation and an OAuth client of it (grant type: client credentials)."""

    kind: Literal["genesys"]
    login_url: str
    client_id: str
    client_secret: SecretSource

    @model_validator(mode="after")
    def _https_login_outside_a_lab(self) -> Self:
        _must_be_https(self.login_url, "login_url", lab=self.lab)
        return self


class GenesysProfile(GenesysLogin):
    """A Genesys Cloud organisation as an edge."""

    paths: GenesysPaths = GenesysPaths()


class GenesysObserverProfile(GenesysLogin):
    """A Genesys Cloud organisation as an observer, by its published API (docs/genesys-observer.md)."""


class CxonePaths(SettingsModel):
    """Paths of the guide's CXone request and of those defined beside it (docs/platform-contract.md)."""

    token: str = "/authentication/v1/token/access-key"
    certificates: str = "/restapi/v1.0/security/certificates"
    certificate: str = "/restapi/v1.0/security/certificates/{certificate_id}"
    trunks: str = "/restapi/v1.0/sip/trunks"
    profile: str = "/restapi/v1.0/sip/trunks/{trunk_id}/profile"
    ticket_flush: str = "/restapi/v1.0/sip/trunks/{trunk_id}/tls-session-cache/flush"
    close_connections: str = "/restapi/v1.0/sip/trunks/{trunk_id}/tls-connections/close"
    metrics: str = "/restapi/v1.0/system/metrics/sip-trunks/{trunk_id}/tls"
    health: str = "/restapi/v1.0/system/health/sip-trunks/{trunk_id}"


class CxoneProfile(HttpProfile):
    """A NICE CXone tenant."""

    kind: Literal["cxone"]
    auth_url: str
    access_key_id: str
    access_key_secret: SecretSource
    paths: CxonePaths = CxonePaths()

    @model_validator(mode="after")
    def _https_login_outside_a_lab(self) -> Self:
        _must_be_https(self.auth_url, "auth_url", lab=self.lab)
        return self


class SniCanary(SettingsModel):
    """The canary path is a name: a handshake that asks for it (SNI) is served B before B is preferred."""

    kind: Literal["sni"]
    server_name: str


class PortCanary(SettingsModel):
    """The canary path is a second listener, on which carriers never call."""

    kind: Literal["port"]
    port: Annotated[int, Field(ge=1, le=65535)]


class KamailioHost(SettingsModel):
    """One node: where it is asked, where it serves, and where its files are."""

    name: str
    base_url: str = Field(description="its control listener, for example https://10.0.0.10:8443")
    listener: Annotated[str, Field(pattern=r"^(\[[^]]+\]|[^:]+):\d{1,5}$")] = Field(
        description="address:port of its TLS listener, as the worker reaches it"
    )
    files: FilesSource = Field(description="the directory of tls.cfg, certificates and keys")


class KamailioProfile(SettingsModel):
    """One Kamailio TLS edge on one or more nodes, set up as in deploy/kamailio."""

    kind: Literal["kamailio"]
    trunk: str = Field(description="TRUNK_NAME of site.cfg; what a plan writes as trunk")
    nodes: Annotated[tuple[KamailioHost, ...], Field(min_length=1)]
    token: SecretSource = Field(description="CONTROL_TOKEN of site.cfg")
    ca_file: Path | None = Field(default=None, description="CA bundle that signs the control listener's certificate")
    timeout: Timeout = timedelta(seconds=2)
    trust_anchor_file: Path = Field(
        description="PEM of the roots that carriers trust: what does not lead there is refused"
    )
    tls_config: str = "tls.cfg"
    server: str = Field(default="server:default", description="section of tls.cfg; * stands for a node's address")
    client: str | None = Field(default=None, description="section for outbound calls with mutual TLS")
    canary: Annotated[SniCanary | PortCanary, Field(discriminator="kind")] | None = None
    longest_call: PositiveDuration = Field(default=timedelta(hours=4), description="no connection may be closed sooner")
    metrics: PrometheusSource
    lab: bool = False

    @model_validator(mode="after")
    def _https_outside_a_lab(self) -> Self:
        for node in self.nodes:
            _must_be_https(node.base_url, f"base_url of {node.name}", lab=self.lab)
        if len({node.name for node in self.nodes}) < len(self.nodes):
            raise ValueError("two nodes have the same name")
        return self


class HaproxyHost(SettingsModel):
    """One node: the command line of its HAProxy master (`-S`), and where its files are."""

    name: str
    runtime: Annotated[str, Field(pattern=r"^((unix|ssh):/.+|tcp:(\[[^]]+\]|[^:]+):\d{1,5})$")] = Field(
        description="unix:/path, ssh:/path (on the host of files, through SSH), or tcp:host:port"
    )
    files: FilesSource = Field(description="the directory of certificates, keys and sip-pool.cfg")
    ca_file: Path | None = Field(default=None, description="tcp by TLS: CA bundle that signs its certificate")
    client_certificate_file: Path | None = Field(default=None, description="tcp by TLS: PEM, if one is demanded")
    client_key_file: Path | None = None

    @model_validator(mode="after")
    def _kinds_fit(self) -> Self:
        if self.runtime.startswith("ssh:") and self.files.kind != "sftp":
            raise ValueError('runtime = "ssh:…" goes through the SSH server of files, so files needs kind = "sftp"')
        return self

    def in_clear(self) -> bool:
        """True when keys would cross a network that is not this host's own."""
        host = self.runtime.removeprefix("tcp:").rpartition(":")[0].strip("[]")
        try:
            local = ip_address(host).is_loopback
        except ValueError:
            local = host == "localhost"
        return self.runtime.startswith("tcp:") and self.ca_file is None and not local


class HaproxyProfile(SettingsModel):
    """One public listener of HAProxy on one or more nodes, set up as in deploy/haproxy."""

    kind: Literal["haproxy"]
    listener: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = Field(
        description="name of the public frontend; what a plan writes as trunk"
    )
    nodes: Annotated[tuple[HaproxyHost, ...], Field(min_length=1)]
    pool_file: str = "sip-pool.cfg"
    canary_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="port of the frontend <listener>-canary; none: no canary path"
    )
    mutual_tls: bool = Field(default=False, description="the listener demands client certificates")
    call_setups: bool = Field(default=False, description="the SIP server behind counts calls per slot, for Prometheus")
    trust_anchor_file: Path = Field(
        description="PEM of the roots that carriers trust: what does not lead there is refused"
    )
    timeout: Timeout = timedelta(seconds=2)
    metrics: PrometheusSource
    lab: bool = False

    @model_validator(mode="after")
    def _keys_stay_secret(self) -> Self:
        if len({node.name for node in self.nodes}) < len(self.nodes):
            raise ValueError("two nodes have the same name")
        clear = [node.name for node in self.nodes if node.in_clear()]
        if clear and not self.lab:
            raise ValueError(
                f"runtime of {', '.join(clear)}: a private key would cross the network in clear; use ssh:, or tcp: "
                "with ca_file (in profiles marked lab = true it may)"
            )
        return self


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
        _must_be_https(self.address, "address", lab=self.lab)
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


class WebhookProfile(HttpProfile):
    """A webhook that takes notices and alerts as JSON; `base_url` is the whole URL."""

    kind: Literal["webhook"]
    token: SecretSource | None = None


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
    notify: dict[str, WebhookProfile] = {}
    probe: ProbeSettings = ProbeSettings()
    identity: str | None = Field(default=None, description="who approves; default: the operating-system user")
    web_ui: str | None = Field(default=None, description="base URL of the Temporal Web UI, for links")

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
