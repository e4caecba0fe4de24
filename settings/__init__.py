"""The worker's settings: named profiles for platforms, PKI, keys, DNS, carriers, metrics and notifications.

A TOML file (`SIP_ROTATE_SETTINGS`, default `settings.toml`) with environment variables on top
(`SIP_ROTATE__PLATFORMS__EU__BASE_URL=…`). A secret is never written here: each names where it comes from,
`{ env = "NAME" }` or `{ file = "/path" }`.
"""

from __future__ import annotations

from domain.plan import Duration
from settings.base import AbsolutePath, HttpProfile, SecretSource, SettingsModel, Timeout, must_be_https
from settings.clouds import CxonePaths, CxoneProfile, GenesysLogin, GenesysObserverProfile, GenesysPaths, GenesysProfile
from settings.loading import SETTINGS_VARIABLE, PlatformProfile, Settings, load_settings
from settings.metrics import (
    METRICS,
    DatadogMetricsProfile,
    DatadogQueries,
    LabelNames,
    MetricMeaning,
    MetricName,
    MetricQueries,
    MetricsProfile,
    PrometheusMetricsProfile,
    PrometheusQueries,
)
from settings.notify import NotifyProfile, PagerDutyProfile, SlackProfile, SmtpProfile, WebhookProfile
from settings.ntp import NtpSettings, host_and_port
from settings.own_edges import (
    FilesSource,
    HaproxyHost,
    HaproxyProfile,
    KamailioHost,
    KamailioProfile,
    LocalDirectory,
    PortCanary,
    PrometheusSource,
    SftpDirectory,
    SniCanary,
)
from settings.services import (
    CarrierProfile,
    CodecSettings,
    ProbeSettings,
    Rfc2136Profile,
    VaultAddress,
    VaultKvProfile,
    VaultPkiProfile,
)

__all__ = [
    "METRICS",
    "SETTINGS_VARIABLE",
    "AbsolutePath",
    "CarrierProfile",
    "CodecSettings",
    "CxonePaths",
    "CxoneProfile",
    "DatadogMetricsProfile",
    "DatadogQueries",
    "Duration",
    "FilesSource",
    "GenesysLogin",
    "GenesysObserverProfile",
    "GenesysPaths",
    "GenesysProfile",
    "HaproxyHost",
    "HaproxyProfile",
    "HttpProfile",
    "KamailioHost",
    "KamailioProfile",
    "LabelNames",
    "LocalDirectory",
    "MetricMeaning",
    "MetricName",
    "MetricQueries",
    "MetricsProfile",
    "NotifyProfile",
    "NtpSettings",
    "PagerDutyProfile",
    "PlatformProfile",
    "PortCanary",
    "ProbeSettings",
    "PrometheusMetricsProfile",
    "PrometheusQueries",
    "PrometheusSource",
    "Rfc2136Profile",
    "SecretSource",
    "Settings",
    "SettingsModel",
    "SftpDirectory",
    "SlackProfile",
    "SmtpProfile",
    "SniCanary",
    "Timeout",
    "VaultAddress",
    "VaultKvProfile",
    "VaultPkiProfile",
    "WebhookProfile",
    "host_and_port",
    "load_settings",
    "must_be_https",
]
