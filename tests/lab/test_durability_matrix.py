"""The crash matrix by itself: two deaths for each side effect, parts that add up, and the table that is made of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.durability.matrix import Death, Way, cases, selected
from tests.durability.results import Results, Row
from tests.durability.table import DOCUMENT, tables
from tests.durability.taps import Passage

BIND = Passage("genesys", "PUT /trunks/{id}", 1, True, datetime(2026, 1, 1, tzinfo=UTC))
MATRIX = cases([("BIND", BIND)] * 8, [("ROLLING_BACK", BIND)] * 4)


def test_every_side_effect_has_a_death_before_and_one_after_it() -> None:
    assert len(MATRIX) == 24
    assert [case.death for case in MATRIX[:2]] == [Death.BEFORE, Death.AFTER]
    assert [case.way for case in MATRIX].count(Way.BACK) == 8


def test_the_order_in_which_endpoints_came_about_does_not_move_a_case_to_another_part() -> None:
    other = replace(BIND, service="cxone")
    upload = replace(BIND, operation="PUT /certificates")
    one = cases([("UPLOAD", upload), ("BIND", BIND), ("BIND", other)], [])
    assert one == cases([("UPLOAD", upload), ("BIND", other), ("BIND", BIND)], [])
    assert one[0].phase == "UPLOAD"


def test_a_tenth_is_every_tenth_case_and_ten_parts_are_the_whole() -> None:
    assert selected(MATRIX, "tenth") == selected(MATRIX, "1/10") == MATRIX[::10]
    parts = [case for part in range(1, 11) for case in selected(MATRIX, f"{part}/10")]
    assert sorted(map(id, parts)) == sorted(map(id, MATRIX))
    assert selected(MATRIX, "full") == MATRIX


@pytest.mark.parametrize("choice", ["half", "0/10", "11/10", "1/", "/"])
def test_a_choice_that_names_no_part_is_refused(choice: str) -> None:
    with pytest.raises(ValueError, match="DURABILITY"):
        selected(MATRIX, choice)


def test_results_add_up_from_run_to_run_and_keep_the_order_of_the_matrix(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    for name in ("b", "a", "gone", "a"):
        results.add(Row(name, "worker death", "bind", "killed before", f"found {name}", 20.0))
    results.add(Row("other", "late requests", "upload", "", "held", 9.0))
    results.keep_only("worker death", ["a", "b"])
    assert [row.name for row in Results(tmp_path / "results.json").rows()] == ["other", "a", "b"]


def test_the_document_has_a_place_for_each_table() -> None:
    rows = [Row("a", "worker death", "bind | twice", "killed before", "completed", 20.4)]
    written = tables(DOCUMENT.read_text(encoding="utf-8"), rows)
    assert "| bind / twice | killed before | completed | 20 |" in written
    assert tables(written, rows) == written
