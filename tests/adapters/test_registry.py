"""The registry: adapters by profile name, built once, and a wrong name told with the nearest right one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.carriers.http_health import HttpHealthCarrier
from adapters.dns.rfc2136 import Rfc2136Zone
from adapters.edges.cxone import CxoneEdge
from adapters.edges.genesys import GenesysEdge
from adapters.keys.vault_kv import VaultKvCustodian
from adapters.metrics.base import MetricSource
from adapters.metrics.datadog import DatadogMetrics
from adapters.metrics.platform import PlatformMetrics
from adapters.metrics.prometheus import PrometheusMetrics
from adapters.notify.pagerduty import PagerDutyNotifier
from adapters.notify.slack import SlackNotifier
from adapters.notify.smtp import SmtpNotifier
from adapters.notify.webhook import WebhookNotifier
from adapters.observers.genesys import GenesysObserver
from adapters.pki.vault import VaultAuthority
from adapters.probe.sip_tls import SipTlsProber
from adapters.registry import Adapters
from domain.clocks import ClockLimits
from domain.errors import SettingsInvalid, Unreachable
from settings import Settings
from tests.adapters.trunk_leaves import root

SECRET = {"env": "TEST_SECRET"}


@pytest.fixture
def sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings with one profile of every kind."""
    monkeypatch.setenv("TEST_SECRET", "c2VjcmV0")
    monkeypatch.setenv("SIP_ROTATE_SETTINGS", str(tmp_path / "none.toml"))
    anchors = tmp_path / "root.pem"
    anchors.write_text(root().pem)
    vault = {"address": "https://127.0.0.1:8200", "token": SECRET}
    return {
        "codec": {"current": "k1", "keys": {"k1": SECRET}},
        "platforms": {
            "genesys-eu": {
                "kind": "genesys",
                "base_url": "https://api.example.com",
                "login_url": "https://login.example.com",
                "client_id": "id",
                "client_secret": SECRET,
            },
            "cxone-us": {
                "kind": "cxone",
                "base_url": "http://127.0.0.1:9",
                "auth_url": "http://127.0.0.1:9",
                "access_key_id": "id",
                "access_key_secret": SECRET,
                "lab": True,
            },
        },
        "pki": {
            "enterprise": {
                "kind": "vault",
                "mount": "pki_int",
                "role": "sip",
                "trust_anchor_file": anchors,
                **vault,
            }
        },
        "keys": {"custody": {"kind": "vault-kv", "kv_mount": "kv", "transit_key": "rot", "lab": True, **vault}},
        "dns": {
            "zone": {
                "kind": "rfc2136",
                "server": "127.0.0.1",
                "zone": "example.com",
                "key_name": "k",
                "key_secret": SECRET,
            }
        },
        "carriers": {"acme": {"kind": "http-health", "base_url": "https://carrier.example.com", "token": SECRET}},
        "observers": {
            "byoc": {
                "kind": "genesys",
                "base_url": "https://api.example.com",
                "login_url": "https://login.example.com",
                "client_id": "id",
                "client_secret": SECRET,
            }
        },
        "metrics": {
            "prom": {
                "kind": "prometheus",
                "base_url": "https://prometheus.example.com",
                "queries": {"handshakes_ok": "ok_total", "handshakes_failed": "failed_total"},
            },
            "dog": {
                "kind": "datadog",
                "api_key": SECRET,
                "application_key": SECRET,
                "queries": {"handshakes_ok": "sum:ok{*}.as_count()", "handshakes_failed": "sum:bad{*}.as_count()"},
            },
        },
        "notify": {
            "ops": {"kind": "webhook", "base_url": "https://ops.example.com/hook"},
            "room": {"kind": "slack", "path": {"env": "ROOM"}},
            "duty": {"kind": "pagerduty", "routing_key": {"env": "DUTY"}},
            "mail": {"kind": "smtp", "host": "mail.example.com", "sender": "a@example.com", "to": ["b@example.com"]},
        },
    }


def registry(sections: dict[str, Any]) -> Adapters:
    return Adapters(Settings(**sections))


async def test_the_metric_sources_are_closed_with_the_others(
    sections: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = registry(sections)
    sources = [adapters.metric_source(name) for name in ("prom", "dog")]
    closed: list[MetricSource] = []

    def watched(source: MetricSource) -> Callable[[], Awaitable[None]]:
        async def close() -> None:
            closed.append(source)

        return close

    for source in sources:
        monkeypatch.setattr(source, "close", watched(source))
    await adapters.close()
    assert sorted(map(id, closed)) == sorted(map(id, sources))


async def test_each_profile_gets_the_adapter_of_its_kind_built_once(sections: dict[str, Any]) -> None:
    adapters = registry(sections)
    assert isinstance(adapters.edge("genesys-eu"), GenesysEdge)
    assert isinstance(adapters.edge("cxone-us"), CxoneEdge)
    assert isinstance(adapters.carrier("acme"), HttpHealthCarrier)
    assert isinstance(adapters.observer("byoc"), GenesysObserver)
    assert isinstance(adapters.notifier("ops"), WebhookNotifier)
    assert isinstance(adapters.notifier("room"), SlackNotifier)
    assert isinstance(adapters.notifier("duty"), PagerDutyNotifier)
    assert isinstance(adapters.notifier("mail"), SmtpNotifier)
    assert isinstance(adapters.authority("enterprise"), VaultAuthority)
    assert isinstance(adapters.custodian("custody"), VaultKvCustodian)
    assert isinstance(adapters.zone("zone"), Rfc2136Zone)
    assert isinstance(adapters.metrics("cxone-us"), PlatformMetrics)
    assert isinstance(adapters.metric_source("prom"), PrometheusMetrics)
    assert isinstance(adapters.metric_source("dog"), DatadogMetrics)
    assert isinstance(adapters.prober(), SipTlsProber)
    for build, name in (
        (adapters.edge, "genesys-eu"),
        (adapters.carrier, "acme"),
        (adapters.notifier, "ops"),
        (adapters.authority, "enterprise"),
        (adapters.custodian, "custody"),
        (adapters.zone, "zone"),
        (adapters.metric_source, "prom"),
    ):
        assert build(name) is build(name)
    assert adapters.prober() is adapters.prober()
    assert adapters.edge("cxone-us").profile == "cxone-us"
    await adapters.close()


def test_an_unknown_profile_names_section_and_nearest_name(sections: dict[str, Any]) -> None:
    adapters = registry(sections)
    with pytest.raises(SettingsInvalid, match=r"\[platforms\.genesys-ue\]: .*did you mean \[platforms\.genesys-eu\]\?"):
        adapters.edge("genesys-ue")
    with pytest.raises(SettingsInvalid, match=r"did you mean \[platforms\.cxone-us\]"):
        adapters.metrics("cxone")
    for build, section in (
        (adapters.carrier, "carriers"),
        (adapters.observer, "observers"),
        (adapters.metric_source, "metrics"),
        (adapters.notifier, "notify"),
        (adapters.authority, "pki"),
        (adapters.custodian, "keys"),
        (adapters.zone, "dns"),
    ):
        with pytest.raises(SettingsInvalid, match=rf"\[{section}\.nothing-like-it\].*no profile 'nothing-like-it'"):
            build("nothing-like-it")


def test_a_section_without_profiles_says_what_to_add(sections: dict[str, Any]) -> None:
    del sections["carriers"]
    with pytest.raises(SettingsInvalid, match=r"profiles: none; do: add \[carriers\.acme\]"):
        registry(sections).carrier("acme")


def test_what_is_marked_lab_is_told_per_profile(sections: dict[str, Any]) -> None:
    adapters = registry(sections)
    assert adapters.is_lab("platforms", "cxone-us") is True
    assert adapters.is_lab("platforms", "genesys-eu") is False
    assert adapters.is_lab("keys", "custody") is True
    assert adapters.is_lab("metrics", "dog") is False
    assert [adapters.is_lab(*one) for one in (("pki", "enterprise"), ("dns", "zone"), ("notify", "ops"))] == [False] * 3
    with pytest.raises(SettingsInvalid, match=r"\[platforms\.other\]"):
        adapters.is_lab("platforms", "other")
    with pytest.raises(SettingsInvalid, match=r"no such section.*platforms, pki"):
        adapters.is_lab("codec", "k1")


def test_a_prober_without_roots_is_refused(sections: dict[str, Any]) -> None:
    del sections["pki"]
    with pytest.raises(SettingsInvalid, match=r"probe\.trust_anchor_file"):
        registry(sections).prober()


def test_the_probers_own_roots_come_first(sections: dict[str, Any], tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    own.write_text(root().pem)
    sections["pki"]["enterprise"]["trust_anchor_file"] = tmp_path / "absent.pem"
    sections["probe"] = {"trust_anchor_file": own}
    assert isinstance(registry(sections).prober(), SipTlsProber)


async def test_time_servers_are_those_of_the_settings_and_none_without_the_section(sections: dict[str, Any]) -> None:
    assert registry(sections).time_servers() is None
    sections["ntp"] = {"servers": ["127.0.0.1:9"], "timeout": "100ms", "warn_above": "30s"}
    servers = registry(sections).time_servers()
    assert servers is not None
    assert servers.limits == ClockLimits(warn_above=timedelta(seconds=30))
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9: "):
        await servers.time()


def test_settings_stay_at_hand(sections: dict[str, Any]) -> None:
    assert registry(sections).settings.probe.rate_per_endpoint == 1.0
