"""What a replay does not notice – timeouts, arguments, names, schemas – is frozen in `contract.json`."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.replay import contract
from tests.replay.contract import Json

WHAT_TO_DO = """
A rotation that is in flight may depend on it. docs/changing-workflows.md, section "{section}", says what is safe.
When it is: .venv/bin/python -m tests.replay.contract, and commit contract.json with the change."""

SECTIONS = {
    "schemas": "Change a schema",
    "messages": "Change a schema",
    "activities": "Change an activity",
    "workflows": "Change an activity",
    "patches": "Add, remove or reorder what a workflow does",
    "task queue": "Names and ids",
    "workflow task timeout": "Change an activity",
    "ids": "Names and ids",
    "search attributes": "Names and ids",
}
"""Which section of the document is about a part of the contract."""


@pytest.fixture(scope="module")
def today() -> Json:
    """The contract of the code of today."""
    return contract.derived()


def complaint(before: Json, after: Json) -> str:
    """What changed, and what to do about it; empty when nothing changed."""
    changed = list(contract.differences(before, after))
    sections = sorted({SECTIONS[line.split(" / ")[0].split(":")[0]] for line in changed})
    return "\n".join([*changed, *(WHAT_TO_DO.format(section=section) for section in sections)]) if changed else ""


def test_nothing_changed_on_which_a_rotation_in_flight_depends(today: Json) -> None:
    changed = complaint(contract.committed(), today)
    assert not changed, f"\n{changed}"


def test_the_options_of_every_activity_are_frozen(today: Json) -> None:
    assert list(contract.not_asked_for(today)) == [], "no committed history asks for it: record one that does"


def test_what_acts_is_never_abandoned_and_what_watches_is(today: Json) -> None:
    """What the 30 s of a rollback rest on is not only frozen: a regenerated contract that breaks it fails as well."""
    asked = {name: entry["asked for with"] for name, entry in today["activities"].items()}
    watchers = {"readiness", "soak", "verify", "adopt", "drain", "guard"}
    acts = {"upload", "bind", "prefer", "remove", "restore", "serve_a_alone", "settings_back", "issue", "revoke_a"}
    for name in watchers | acts:
        wanted = "TRY_CANCEL" if name in watchers else "WAIT_CANCELLATION_COMPLETED"
        assert {options.split(", ")[0] for options in asked[name]} == {wanted}, name
        assert {re.findall("start to close ([^,]+)", options)[0] for options in asked[name]} <= {"4s", "8s"}, name


def test_every_part_of_the_contract_has_a_section_in_the_document(today: Json) -> None:
    document = (contract.FILE.parents[2] / "docs" / "changing-workflows.md").read_text(encoding="utf-8")
    assert set(SECTIONS) == set(today)
    for section in SECTIONS.values():
        assert f"## {section}\n" in document, section


def _change(path: str, value: Any) -> Callable[[Json], None]:
    def change(changed: Json) -> None:
        *above, last = path.split("/")
        place: Any = changed
        for key in above:
            place = place[int(key)] if isinstance(place, list) else place[key]
        place[int(last) if isinstance(place, list) else last] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_change("activities/bind/asked for with/0", "start to close 9s"), 'asked for with: new, "start to close 9s"'),
        (_change("activities/bind/takes", ["Other"]), 'activities / bind / takes: gone, was "EndpointRequest"'),
        (_change("activities/bound", {"takes": []}), "activities / bound: new"),
        (lambda changed: changed["activities"].pop("bind"), "activities / bind: gone"),
        (_change("schemas/EndpointRequest/sha256_b", "string"), 'sha256_b: "string", was "string, required"'),
        (_change("schemas/Phase", "string"), 'schemas / Phase: "string", was "string, enum ['),
        (_change("task queue", "other"), 'task queue: "other", was "sip-tls-rotation"'),
        (lambda changed: changed["search attributes"].pop("RotationPhase"), "search attributes / RotationPhase: gone"),
    ],
)
def test_a_change_is_named_with_the_section_that_says_what_to_do(
    today: Json, change: Callable[[Json], None], told: str
) -> None:
    changed = copy.deepcopy(today)
    change(changed)
    said = complaint(today, changed)
    assert told in said
    assert "docs/changing-workflows.md, section" in said
