"""What a plan may do in a lab only."""

from __future__ import annotations

import pytest

from domain.plan import limits_undercut, parse_plan
from tests.domain.plans import plan, plan_text


def test_the_guides_own_figures_undercut_nothing() -> None:
    assert limits_undercut(plan()) == []


@pytest.mark.parametrize(
    ("setting", "undercut"),
    [
        ('timings.overlap = "71h59m"', "timings.overlap = 71h59m, at least 72h"),
        ('timings.soak = "14m"', "timings.soak = 14m, at least 15m"),
        ('timings.hold = "1s"', "timings.hold = 1s, at least 24h"),
        ('timings.late_request = "29s"', "timings.late_request = 29s, at least 30s"),
        ("thresholds.minimum_sample = 599", "thresholds.minimum_sample = 599, at least 600"),
        ("thresholds.guard_sample = 99", "thresholds.guard_sample = 99, at least 100"),
        ("thresholds.success = 0.99", "thresholds.success = 0.99, at least 0.995"),
        ("thresholds.breach = 0.97", "thresholds.breach = 0.97, at least 0.98"),
        ("thresholds.adopt_share = 0.8", "thresholds.adopt_share = 0.8, at least 0.85"),
        ("thresholds.setup_margin = 0.5", "thresholds.setup_margin = 0.5, at most 0.005"),
        ("thresholds.consecutive_alerts = 500", "thresholds.consecutive_alerts = 500, at most 5"),
        ('timings.overlap = "73h"', None),
        ("thresholds.minimum_sample = 601", None),
        ("thresholds.success = 0.999", None),
        ("thresholds.setup_margin = 0.001", None),
    ],
)
def test_what_only_a_lab_may_do_is_named(setting: str, undercut: str | None) -> None:
    text = plan_text(('\n[thresholds]\nsuccess = 0.995\n\n[timings]\noverlap = "72h"\n', ""))
    assert limits_undercut(parse_plan(f"{setting}\n{text}")) == ([undercut] if undercut else [])
