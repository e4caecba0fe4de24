"""Builds adapters from settings, by profile name: lazily, and one per profile."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, TypeVar

from adapters.carriers.base import Carrier
from adapters.carriers.http_health import HttpHealthCarrier
from adapters.dns.base import DnsZone
from adapters.dns.rfc2136 import Rfc2136Zone
from adapters.edges.base import Edge
from adapters.edges.cxone import CxoneEdge
from adapters.edges.genesys import GenesysEdge
from adapters.edges.haproxy.edge import HaproxyEdge
from adapters.edges.kamailio.edge import KamailioEdge
from adapters.keys.base import KeyCustodian
from adapters.keys.vault_kv import VaultKvCustodian
from adapters.metrics.base import MetricSource
from adapters.metrics.datadog import DatadogMetrics
from adapters.metrics.platform import PlatformMetrics
from adapters.metrics.prometheus import PrometheusMetrics
from adapters.notify.base import Notifier
from adapters.notify.building import notifier_of
from adapters.observers.base import Observer
from adapters.observers.genesys import GenesysObserver
from adapters.pki.base import CertificateAuthority
from adapters.pki.vault import VaultAuthority
from adapters.probe.base import Prober, TimeServers
from adapters.probe.ntp import NtpServers
from adapters.probe.sip_tls import SipTlsProber
from domain.errors import SettingsInvalid
from settings import (
    CarrierProfile,
    CxoneProfile,
    DatadogMetricsProfile,
    GenesysObserverProfile,
    GenesysProfile,
    HaproxyProfile,
    KamailioProfile,
    MetricsProfile,
    NotifyProfile,
    PlatformProfile,
    PrometheusMetricsProfile,
    Rfc2136Profile,
    Settings,
    VaultKvProfile,
    VaultPkiProfile,
)

P = TypeVar("P")

SECTIONS: Final = ("platforms", "pki", "keys", "dns", "carriers", "observers", "metrics", "notify")
"""The sections of the settings that hold named profiles."""


class Adapters:
    """Everything outside, by the names that a plan uses.

    Every method that takes a profile raises `SettingsInvalid` for a name that the settings do not have.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._edges: dict[str, Edge] = {}
        self._carriers: dict[str, Carrier] = {}
        self._observers: dict[str, Observer] = {}
        self._metric_sources: dict[str, PrometheusMetrics | DatadogMetrics] = {}
        self._notifiers: dict[str, Notifier] = {}
        self._authorities: dict[str, VaultAuthority] = {}
        self._custodians: dict[str, VaultKvCustodian] = {}
        self._zones: dict[str, DnsZone] = {}
        self._prober: Prober | None = None

    def edge(self, profile: str) -> Edge:
        """The platform of `[platforms.<profile>]`."""
        if profile not in self._edges:
            self._edges[profile] = _edge(profile, _found("platforms", self.settings.platforms, profile))
        return self._edges[profile]

    def metrics(self, profile: str) -> MetricSource:
        """The figures of the platform of `[platforms.<profile>]`."""
        return PlatformMetrics(self.edge(profile))

    def metric_source(self, profile: str) -> MetricSource:
        """The figures of `[metrics.<profile>]`."""
        if profile not in self._metric_sources:
            self._metric_sources[profile] = _metric_source(profile, _found("metrics", self.settings.metrics, profile))
        return self._metric_sources[profile]

    def carrier(self, profile: str) -> Carrier:
        """The carrier of `[carriers.<profile>]`."""
        if profile not in self._carriers:
            found: CarrierProfile = _found("carriers", self.settings.carriers, profile)
            self._carriers[profile] = HttpHealthCarrier(profile, found)
        return self._carriers[profile]

    def observer(self, profile: str) -> Observer:
        """The platform beside the edge of `[observers.<profile>]`."""
        if profile not in self._observers:
            found: GenesysObserverProfile = _found("observers", self.settings.observers, profile)
            self._observers[profile] = GenesysObserver(profile, found)
        return self._observers[profile]

    def notifier(self, profile: str) -> Notifier:
        """Who is told by `[notify.<profile>]`."""
        if profile not in self._notifiers:
            found: NotifyProfile = _found("notify", self.settings.notify, profile)
            self._notifiers[profile] = notifier_of(profile, found)
        return self._notifiers[profile]

    def authority(self, profile: str) -> CertificateAuthority:
        """The PKI of `[pki.<profile>]`."""
        if profile not in self._authorities:
            found: VaultPkiProfile = _found("pki", self.settings.pki, profile)
            self._authorities[profile] = VaultAuthority(profile, found)
        return self._authorities[profile]

    def custodian(self, profile: str) -> KeyCustodian:
        """The key custody of `[keys.<profile>]`."""
        if profile not in self._custodians:
            found: VaultKvProfile = _found("keys", self.settings.keys, profile)
            self._custodians[profile] = VaultKvCustodian(profile, found)
        return self._custodians[profile]

    def zone(self, profile: str) -> DnsZone:
        """The DNS zone of `[dns.<profile>]`."""
        if profile not in self._zones:
            found: Rfc2136Profile = _found("dns", self.settings.dns, profile)
            self._zones[profile] = Rfc2136Zone(profile, found)
        return self._zones[profile]

    def prober(self) -> Prober:
        """Our own prober. Raises `SettingsInvalid` when no setting says which roots carriers trust."""
        if self._prober is None:
            self._prober = SipTlsProber(self.settings.probe, self._trust_anchors())
        return self._prober

    def time_servers(self) -> TimeServers | None:
        """The NTP servers of `[ntp]`; None without that section."""
        return NtpServers(self.settings.ntp) if self.settings.ntp is not None else None

    def page_of(self, namespace: str, workflow_id: str, run_id: str) -> str | None:
        """A workflow's page in the Web UI, if the settings say where that is."""
        return self.settings.page_of(namespace, workflow_id, run_id)

    def is_lab(self, section: str, profile: str) -> bool:
        """True when `[<section>.<profile>]` is marked `lab = true`, so that a plan's limits may be undercut."""
        if section not in SECTIONS:
            raise SettingsInvalid(
                "there is no such section of profiles", where=f"[{section}]", action=f"sections: {', '.join(SECTIONS)}"
            )
        return bool(_found(section, getattr(self.settings, section), profile).lab)

    async def close(self) -> None:
        """Closes the connections of everything that was built, also when one of them fails to."""
        async with AsyncExitStack() as closing:
            for edge in self._edges.values():
                closing.push_async_callback(edge.close)
            for carrier in self._carriers.values():
                closing.push_async_callback(carrier.close)
            for observer in self._observers.values():
                closing.push_async_callback(observer.close)
            for source in self._metric_sources.values():
                closing.push_async_callback(source.close)
            for notifier in self._notifiers.values():
                closing.push_async_callback(notifier.close)
            for authority in self._authorities.values():
                closing.push_async_callback(authority.close)
            for custodian in self._custodians.values():
                closing.push_async_callback(custodian.close)

    def _trust_anchors(self) -> Path:
        if self.settings.probe.trust_anchor_file is not None:
            return self.settings.probe.trust_anchor_file
        for profile in self.settings.pki.values():
            return profile.trust_anchor_file
        raise SettingsInvalid(
            "the prober does not know which roots carriers trust",
            where="[probe]",
            action="set probe.trust_anchor_file, or add a [pki.…] profile",
        )


def _edge(name: str, profile: PlatformProfile) -> Edge:
    match profile:
        case GenesysProfile():
            return GenesysEdge(name, profile)
        case CxoneProfile():
            return CxoneEdge(name, profile)
        case HaproxyProfile():
            return HaproxyEdge(name, profile)
        case KamailioProfile():
            return KamailioEdge(name, profile)


def _metric_source(name: str, profile: MetricsProfile) -> PrometheusMetrics | DatadogMetrics:
    match profile:
        case PrometheusMetricsProfile():
            return PrometheusMetrics(name, profile)
        case DatadogMetricsProfile():
            return DatadogMetrics(name, profile)


def _found(section: str, profiles: Mapping[str, P], name: str) -> P:
    if name in profiles:
        return profiles[name]
    near = difflib.get_close_matches(name, profiles, n=1, cutoff=0.0)
    raise SettingsInvalid(
        f"the settings have no profile {name!r}",
        where=f"[{section}.{name}]",
        seen=f"profiles: {', '.join(sorted(profiles)) or 'none'}",
        action=f"did you mean [{section}.{near[0]}]?" if near else f"add [{section}.{name}] to the settings",
    )
