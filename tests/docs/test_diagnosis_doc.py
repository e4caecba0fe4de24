"""docs/diagnosis.md against the tables of the diagnosis and the faults of the lab."""

from __future__ import annotations

from pathlib import Path

from domain.causes import (
    ALERTS,
    ANY_OTHER_STATUS,
    DISTRUSTS,
    PLATFORM_WORDS,
    REMEDIES,
    SIP_STATUSES,
    FailureCause,
)
from domain.diagnosis import Sure
from lab.faults import FAULTS
from tests.e2e.test_fault_diagnosis import CAUSES

DIAGNOSIS = (Path(__file__).resolve().parents[2] / "docs" / "diagnosis.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    found: list[list[str]] = []
    for line in DIAGNOSIS.partition(f"## {heading}\n")[2].splitlines():
        if line.startswith("|"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
        elif found:
            break
    return found[2:]


def names(causes: tuple[FailureCause, ...]) -> str:
    return ", ".join(causes) or "–"


def demonstrated(cause: FailureCause) -> str:
    faults = [f"`make demo FAULT={name}` ({sure})" for name, (shown, sure) in CAUSES.items() if shown is cause]
    return ", ".join(faults) or "–"


def test_every_cause_is_explained_with_its_next_step_and_its_demonstration() -> None:
    assert table("Causes") == [
        [cause, remedy.sentence, remedy.next_step, demonstrated(cause)] for cause, remedy in REMEDIES.items()
    ]


def test_every_alert_is_there_with_its_number_and_what_it_points_to() -> None:
    condition = ", if a fresh handshake of our own is fine"
    assert table("Failed handshakes") == [
        [
            f"`{name}`",
            "–" if row.number is None else str(row.number),
            names(row.causes) + (condition if row.fresh_is_fine else ""),
            row.source,
        ]
        for name, row in ALERTS.items()
    ]


def test_statuses_verdicts_and_words_are_those_of_the_tables() -> None:
    statuses = [[status, names(causes)] for status, causes in SIP_STATUSES.items()]
    assert table("Answers of SIP") == [*statuses, ["any other", names(ANY_OTHER_STATUS)]]
    assert table("What our prober refuses itself") == [[str(d), str(cause)] for d, cause in DISTRUSTS.items()]
    assert table("The platform's word") == [[word, names(causes)] for word, causes in PLATFORM_WORDS.items()]


def test_every_demonstration_is_a_fault_of_the_lab_and_the_guides_edge_cases_are_among_them() -> None:
    assert set(CAUSES) <= set(FAULTS)
    shown = {cause for cause, _ in CAUSES.values()}
    assert {FailureCause.CLOCK_DRIFT, FailureCause.RESUMPTION, FailureCause.STAPLE_STALE} <= shown
    assert {row[0] for row in table("The guide's edge cases")} == {
        "1, NTP drift",
        "2, tickets and resumption",
        "3, OCSP",
    }


def test_every_degree_of_certainty_is_explained() -> None:
    assert [sure for sure in Sure if f"**{sure}**" not in DIAGNOSIS.replace("cause not known", "not known")] == []
