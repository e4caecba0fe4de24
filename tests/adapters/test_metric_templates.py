"""The settings of metric sources: what a query template may hold, and how a wrong one is told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.errors import SettingsInvalid
from domain.plan import Direction
from settings import DatadogMetricsProfile, PrometheusMetricsProfile, load_settings
from settings.templates import PLACEHOLDERS, filled, is_selector

LEAF = "ab" * 32
SELECTOR = 'handshakes_total{trunk="{trunk}",result="ok"}'
INCREASE = 'sum by (peer) (increase(handshakes_total{trunk="{trunk}"}[{window}]))'
COUNT = "sum:sip.handshakes{trunk:{trunk}} by {direction,peer}.as_count()"
KEYS = {"api_key": {"env": "DD"}, "application_key": {"env": "DD"}}


def prometheus(queries: dict[str, Any], **changes: Any) -> PrometheusMetricsProfile:
    return PrometheusMetricsProfile.model_validate(
        {
            "kind": "prometheus",
            "base_url": "https://prometheus.example.com",
            "queries": {"handshakes_ok": SELECTOR, "handshakes_failed": SELECTOR, **queries},
            **changes,
        }
    )


def datadog(queries: dict[str, Any], **changes: Any) -> DatadogMetricsProfile:
    return DatadogMetricsProfile.model_validate(
        {
            "kind": "datadog",
            **KEYS,
            "queries": {"handshakes_ok": COUNT, "handshakes_failed": COUNT, **queries},
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ('x_total{trunk="{trnk}"}', r"unknown placeholder \{trnk\}: did you mean \{trunk\}\?"),
        ('x_total{trunk="{carrier}"}', r"Valid are \{trunk\}, \{endpoint\}, \{since\}, \{until\}, \{window\}"),
        ("x_total{trunk={trunk}}", "stand inside double quotes"),
        ("x_total{trunk='{trunk}'}", "strings stand in double quotes"),
        ('x_total{trunk=~"edge-{trunk}"}', "compared by =, not by =~"),
        ("sum(x_total) or vector(0)", "makes a figure out of no data"),
        ('sum(x_total{trunk="{trunk}"})', "an expression states its window"),
        ("  ", "the query is empty"),
    ],
)
def test_a_promql_template_that_cannot_work_is_refused(query: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as raised:
        prometheus({"handshakes_failed": query})
    assert "queries.handshakes_failed" in str(raised.value)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("sum:x{trunk:{trnk}}.as_count()", r"unknown placeholder \{trnk\}: did you mean \{trunk\}\?"),
        ("sum:x{trunk:{trunk}}", r"asked for by sum:….as_count\(\)"),
        ("avg:x{trunk:{trunk}}.as_count()", r"asked for by sum:….as_count\(\)"),
        ("default_zero(sum:x{trunk:{trunk}}.as_count())", "makes a figure out of no data"),
        ("sum:x{trunk:{trunk}}.as_count().fill(zero)", "makes a figure out of no data"),
        ("sum:x{trunk:{trunk}}.as_count().rollup(sum, 60)", "set interval"),
        ("sum:x{trunk:{trunk}}.as_rate()", "answers rates"),
    ],
)
def test_a_datadog_template_that_cannot_work_is_refused(query: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as raised:
        datadog({"handshakes_ok": query})
    assert "queries.handshakes_ok" in str(raised.value)


@pytest.mark.parametrize(
    ("queries", "told"),
    [
        ({"calls_ok": SELECTOR}, "calls_ok and calls_failed come together"),
        ({"may_be_absent": ["handshakes_failed"]}, "need started"),
        ({"targets": 2}, "need started"),
        ({"handshakes_ok": INCREASE}, "handshakes_ok: an expression needs started"),
        ({"started": "time() - max(x[{window}])"}, "plain selector"),
    ],
)
def test_queries_that_do_not_fit_together_are_refused(queries: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        prometheus(queries)


def test_what_is_wrong_in_the_file_is_told_with_its_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIP_ROTATE_SETTINGS", "")
    path = tmp_path / "settings.toml"
    path.write_text(
        """\
[codec]
current = "k"
keys.k = { env = "K" }

[metrics.site]
kind = "prometheus"
base_url = "http://prometheus.example.com"

[metrics.site.queries]
handshakes_ok = 'ok_total{trunk="{trnk}"}'
handshakes_failed = 'failed_total{trunk="{trunk}"}'
"""
    )
    with pytest.raises(SettingsInvalid) as raised:
        load_settings(path)
    place = "metrics.site.prometheus.queries.handshakes_ok (line 5)"
    assert f"{place}: unknown placeholder {{trnk}}: did you mean {{trunk}}?" in str(raised.value)
    path.write_text(path.read_text().replace("{trnk}", "{trunk}"))
    with pytest.raises(SettingsInvalid, match="base_url must be https://"):
        load_settings(path)
    path.write_text(path.read_text().replace("http:", "https:"))
    assert load_settings(path).metrics["site"].kind == "prometheus"


@pytest.mark.parametrize(
    ("query", "is_one"),
    [
        ("x_total", True),
        ('x_total{a="1",b!="2"}', True),
        ('{__name__="x_total"}', True),
        ('x_total{a="sum(1)"}', True),
        ("{}", False),
        ("sum(x_total)", False),
        ("x_total[{window}]", False),
        ("x_total + y_total", False),
    ],
)
def test_a_selector_is_told_from_an_expression(query: str, is_one: bool) -> None:
    assert is_selector(query) is is_one


def test_only_placeholders_are_filled_in() -> None:
    values = {name: name.upper() for name in PLACEHOLDERS}
    assert filled('x{trunk="{trunk}"}[{window}] @ {until}', values) == 'x{trunk="TRUNK"}[WINDOW] @ UNTIL'
    assert filled("sum:x{trunk:{trunk}} by {trunk}.as_count()", values) == "sum:x{trunk:TRUNK} by {trunk}.as_count()"
    assert filled("sum:x{trunk:{endpoint}} by {a,b}", values) == "sum:x{trunk:ENDPOINT} by {a,b}"


def test_a_certificate_is_its_fingerprint_or_stands_in_the_table() -> None:
    colons = ":".join(["AB"] * 32)
    profile = prometheus({}, certificates={"Slot-One": "CD" * 32, "two": colons})
    assert profile.leaf_of(LEAF) == profile.leaf_of(LEAF.upper()) == profile.leaf_of(colons) == LEAF
    assert profile.leaf_of("slot-one") == "cd" * 32
    assert profile.leaf_of("two") == LEAF
    assert profile.leaf_of("three") is profile.leaf_of("") is profile.leaf_of(None) is None
    with pytest.raises(ValueError, match="64 hex digits"):
        prometheus({}, certificates={"one": "abcd"})


def test_a_direction_is_known_translated_or_the_default() -> None:
    profile = datadog({}, directions={"ingress": "inbound"}, default_direction="outbound")
    assert profile.direction_of("INBOUND") is profile.direction_of("Ingress") is Direction.INBOUND
    assert profile.direction_of(None) is profile.direction_of("") is Direction.OUTBOUND
    assert profile.direction_of("sideways") is None
    assert datadog({}).direction_of(None) is None


@pytest.mark.parametrize("interval", ["500ms", "1500ms", "2m"])
def test_datadogs_interval_is_in_whole_seconds_up_to_a_minute(interval: str) -> None:
    with pytest.raises(ValueError, match="interval"):
        datadog({}, interval=interval)
    assert datadog({}, interval="15s").interval == timedelta(seconds=15)
