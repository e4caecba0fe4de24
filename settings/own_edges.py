"""Profiles of edges on hosts of our own: HAProxy and Kamailio, their files, and the Prometheus that scrapes them."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from domain.plan import PositiveDuration
from settings.base import AbsolutePath, HttpProfile, SecretSource, SettingsModel, Timeout, must_be_https


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
            must_be_https(node.base_url, f"base_url of {node.name}", lab=self.lab)
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
