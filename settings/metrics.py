"""Profiles of metric sources beside the platform's own: Prometheus and Datadog (docs/metric-sources.md)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from domain.plan import Direction, PositiveDuration
from settings.base import HttpProfile, SecretSource, SettingsModel
from settings.own_edges import PrometheusSource
from settings.templates import datadog_count, datadog_query, is_selector, promql, promql_selector

MetricName = Literal["handshakes_ok", "handshakes_failed", "calls_ok", "calls_failed"]

METRICS: Final[tuple[MetricName, ...]] = ("handshakes_ok", "handshakes_failed", "calls_ok", "calls_failed")


def leaf_sha256(text: str) -> str:
    """A fingerprint as the samples have it: 64 hex digits in lower case; colons are accepted. Raises `ValueError`."""
    digits = text.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError("a leaf's SHA-256 has 64 hex digits")
    return digits


class LabelNames(SettingsModel):
    """What the labels (Datadog: tags) are called that tell whom and what a count belongs to."""

    direction: str = "direction"
    certificate: str = "certificate"
    peer: str = "peer"
    cause: str = "cause"


class MetricQueries(SettingsModel):
    """What is asked for, and what may be missing in the answer."""

    handshakes_ok: str
    handshakes_failed: str
    calls_ok: str | None = None
    calls_failed: str | None = None
    started: str | None = Field(default=None, description="since when each target counts, in seconds since 1970")
    may_be_absent: tuple[MetricName, ...] = ()
    targets: Annotated[int, Field(ge=1)] = 1

    def by_metric(self) -> dict[MetricName, str]:
        """The queries that there are, without the start times."""
        asked = {metric: getattr(self, metric) for metric in METRICS}
        return {metric: query for metric, query in asked.items() if query is not None}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.calls_ok is None) != (self.calls_failed is None):
            raise ValueError("calls_ok and calls_failed come together: one alone gives no share")
        if self.started is None and (self.may_be_absent or self.targets > 1):
            raise ValueError("may_be_absent and targets need started: without it nothing tells silence from an outage")
        return self


class PrometheusQueries(MetricQueries):
    """PromQL. A selector is read sample by sample; an expression is what the server makes of it."""

    handshakes_ok: Annotated[str, AfterValidator(promql)]
    handshakes_failed: Annotated[str, AfterValidator(promql)]
    calls_ok: Annotated[str, AfterValidator(promql)] | None = None
    calls_failed: Annotated[str, AfterValidator(promql)] | None = None
    started: Annotated[str, AfterValidator(promql_selector)] | None = None

    @model_validator(mode="after")
    def _expressions_have_an_age(self) -> Self:
        expressions = [metric for metric, query in self.by_metric().items() if not is_selector(query)]
        if expressions and self.started is None:
            raise ValueError(f"{', '.join(expressions)}: an expression needs started, which tells how old figures are")
        return self


class DatadogQueries(MetricQueries):
    """Datadog's metric queries."""

    handshakes_ok: Annotated[str, AfterValidator(datadog_count)]
    handshakes_failed: Annotated[str, AfterValidator(datadog_count)]
    calls_ok: Annotated[str, AfterValidator(datadog_count)] | None = None
    calls_failed: Annotated[str, AfterValidator(datadog_count)] | None = None
    started: Annotated[str, AfterValidator(datadog_query)] | None = None


class MetricMeaning(SettingsModel):
    """What labels say, and what is meant where they are absent."""

    certificates: dict[str, Annotated[str, AfterValidator(leaf_sha256)]] = Field(
        default={}, description="label → SHA-256 of the leaf; a label that is a fingerprint needs no entry"
    )
    directions: dict[str, Direction] = Field(default={}, description="labels other than inbound and outbound")
    default_direction: Direction | None = None
    default_cause: Annotated[str, Field(min_length=1)] = "failed"

    def leaf_of(self, label: str | None) -> str | None:
        """The leaf behind a label, None when nobody knows. Datadog has its tags in lower case, so case is the same."""
        if not label:
            return None
        table = {name.lower(): leaf for name, leaf in self.certificates.items()}
        try:
            return table.get(label.lower()) or leaf_sha256(label)
        except ValueError:
            return None

    def direction_of(self, label: str | None) -> Direction | None:
        """What a label says, or the default without one; None when neither is known."""
        if not label:
            return self.default_direction
        table = {name.lower(): direction for name, direction in self.directions.items()}
        known = {direction.value: direction for direction in Direction}
        return (known | table).get(label.lower())


class PrometheusMetricsProfile(PrometheusSource, MetricMeaning):
    """Counters that a Prometheus server scrapes, whatever they are called."""

    kind: Literal["prometheus"]
    queries: PrometheusQueries
    labels: LabelNames = LabelNames()


class DatadogMetricsProfile(HttpProfile, MetricMeaning):
    """Counts in Datadog: its query API v2. `base_url` is that of the organisation's site."""

    kind: Literal["datadog"]
    base_url: str = "https://api.datadoghq.com"
    api_key: SecretSource
    application_key: SecretSource = Field(description="with the permission timeseries_query")
    interval: Annotated[PositiveDuration, Field(ge=timedelta(seconds=1), le=timedelta(minutes=1))] = timedelta(
        seconds=10
    )
    queries: DatadogQueries
    tags: LabelNames = LabelNames()

    @model_validator(mode="after")
    def _whole_seconds(self) -> Self:
        if self.interval % timedelta(seconds=1):
            raise ValueError("interval is in whole seconds")
        return self


MetricsProfile = Annotated[PrometheusMetricsProfile | DatadogMetricsProfile, Field(discriminator="kind")]
