"""docs/metric-sources.md: its examples are valid settings, and its placeholders are those that there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from settings import MetricsProfile
from settings.templates import PLACEHOLDERS, promql

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "metric-sources.md").read_text(encoding="utf-8")
EXAMPLES: dict[str, Any] = {
    name: profile
    for block in re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    for name, profile in tomllib.loads(block)["metrics"].items()
}


def test_there_is_an_example_of_each_kind() -> None:
    assert sorted(profile["kind"] for profile in EXAMPLES.values()) == ["datadog", "prometheus"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_valid(name: str) -> None:
    profile: Any = TypeAdapter(MetricsProfile).validate_python(EXAMPLES[name])
    assert set(profile.queries.by_metric()) >= {"handshakes_ok", "handshakes_failed"}
    assert all("{trunk}" in query for query in profile.queries.by_metric().values())


def test_the_expression_that_the_page_shows_is_accepted() -> None:
    (shown,) = re.findall(r"```\n(sum by.*?)\n```", PAGE)
    assert promql(shown) == shown


def test_every_placeholder_is_described_and_no_other() -> None:
    table = PAGE.partition("## Placeholders")[2].partition("## Prometheus")[0]
    assert tuple(re.findall(r"^\| `\{(\w+)\}` \|", table, flags=re.MULTILINE)) == PLACEHOLDERS
