"""The table of rollbacks: its figures, its claim, and its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.machine import Machine
from bench.rollback_report import RollbackTable, at_rank, markdown, write
from bench.rollbacks import Case, Took, cases

MACHINE = Machine("a CPU", 2, 24.0, "Linux", {"haproxy": "2.6.12"}, "2026-12-01 10:00 UTC", "abc")
GOOD = Took(Case("lab", "breach", "VERIFY"), "ADOPT", "ROLLED_BACK", 2.5, 120.0)


def table(*rollbacks: Took) -> RollbackTable:
    return RollbackTable("python -m bench rollback", MACHINE, rollbacks, (0.1, 1.0))


def test_a_round_has_every_edge_every_cause_and_every_phase_of_it() -> None:
    once = cases(1)
    assert len(once) == len(set(once)) == 26
    assert len(cases(2)) == 52
    assert {(case.edge, case.cause) for case in once} == {
        *((edge, cause) for edge in ("lab", "haproxy", "kamailio") for cause in ("breach", "signal")),
        ("lab", "failover"),
    }


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 5.0), (0.99, 10.0), (1.0, 10.0), (0.0, 1.0)], ids=["p50", "p99", "max", "min"]
)
def test_percentiles_are_values_that_were_measured(share: float, value: float) -> None:
    assert at_rank([float(n) for n in range(10, 0, -1)], share) == value
    with pytest.raises(ValueError, match="no values"):
        at_rank([], share)


@pytest.mark.parametrize(
    "late",
    [
        {"seconds": 30.0},
        {"seconds": None},
        {"ended": "ROLLING_BACK"},
        {"trouble": "it completed"},
    ],
    ids=["thirty seconds", "never", "not ended", "not turned back"],
)
def test_one_that_was_not_in_time_breaks_the_claim_and_is_named(late: dict[str, object]) -> None:
    assert table(GOOD).all_in_time
    broken = table(GOOD, replace(GOOD, **late))  # type: ignore[arg-type]
    assert not broken.all_in_time
    assert "| lab, breach | 2 | 1 |" in markdown(broken)
    assert "- **not in time**: " in markdown(broken)
    assert "- **not in time**: " not in markdown(table(GOOD))


def test_the_files_say_what_was_measured_and_on_what(tmp_path: Path) -> None:
    signal = replace(GOOD, case=Case("haproxy", "signal", "HOLD"), phase="HOLD", seconds=1.25, first_call_ms=40.0)
    write(table(GOOD, signal), tmp_path)
    text = (tmp_path / "rollback.md").read_text()
    assert "| lab, breach | 1 | 0 | 2.50 s | 2.50 s | 2.50 s | 120 ms | 120 ms |" in text
    assert "| **all** | 2 | 0 | 1.25 s | 2.50 s | 2.50 s | 40 ms | 120 ms |" in text
    assert "Turned back in ADOPT, HOLD." in text
    assert "commit abc; load average 0.1–1.0" in text
    stored = json.loads((tmp_path / "rollback.json").read_text())
    assert [one["seconds"] for one in stored["rollbacks"]] == [2.5, 1.25]
    assert (tmp_path / "rollback.png").read_bytes().startswith(b"\x89PNG")
