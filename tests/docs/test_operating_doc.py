"""docs/operating.md against the code: every alert, outcome, check and message that a person can meet is there."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.guard import GuardVerdict
from domain.rotation import Cause
from workflows.attributes import ALL as SEARCH_ATTRIBUTES
from workflows.messages import Approval, Outcome, RollbackRequest, parse_message

ROOT = Path(__file__).resolve().parents[2]
OPERATING = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
CONTRACT = (ROOT / "docs" / "platform-contract.md").read_text(encoding="utf-8")
GATES = ("readiness", "soak", "verify", "adopt", "drain")


def calls(folder: str, *names: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a function or method of these names in the files of a folder."""
    for path in sorted((ROOT / folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in names:
                    yield called, node


def kinds() -> dict[str, tuple[str, str]]:
    """Kind of every alert and notice in workflows/ with its receiver and severity."""
    found: dict[str, tuple[str, str]] = {}
    for called, node in calls("workflows", "alert", "tell_carrier"):
        first = node.args[0]
        if not isinstance(first, ast.Constant):
            continue
        severity = "info"
        if called == "alert":
            assert isinstance(node.args[1], ast.Attribute)
            severity = node.args[1].attr.lower()
        found[first.value] = ("operations" if called == "alert" else "carrier", severity)
    return found


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    found: list[list[str]] = []
    for line in OPERATING.partition(f"{heading}\n")[2].splitlines():
        if line.startswith("|"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
        elif found:
            break
    return found[2:]


def test_every_kind_of_alert_and_notice_is_explained_with_its_receiver_and_severity() -> None:
    said = {row[0].strip("`"): (row[2], row[1]) for row in table("## Alerts and notices")}
    assert len(kinds()) >= 16
    assert said == kinds()


def test_no_message_to_people_has_a_kind_that_this_test_cannot_see() -> None:
    hidden = [
        ast.unparse(node)
        for called, node in calls("workflows", "alert", "tell_carrier")
        if not isinstance(node.args[0], ast.Constant)
    ]
    assert hidden == []
    assert len(list(calls("workflows", "_tell"))) == 2, "`_tell` is called by `alert` and `tell_carrier` alone"


def test_every_kind_stands_in_the_wire_contract() -> None:
    assert [kind for kind in kinds() if f"`{kind}`" not in CONTRACT] == []


def test_every_outcome_of_a_message_is_explained() -> None:
    assert [row[0] for row in table("## What became of a message")] == [outcome.value for outcome in Outcome]


def test_every_verdict_of_the_guard_is_explained() -> None:
    assert {row[0].strip("`") for row in table("### Watchers at the pending activities")} == set(GuardVerdict)


def test_every_cause_of_turning_back_is_named() -> None:
    assert [cause for cause in Cause if f'"{cause}"' not in OPERATING.replace("\n", " ")] == []


def test_every_check_that_may_be_not_checked_is_explained() -> None:
    names = [
        node.args[0].value
        for folder in ("activities", "domain")
        for _, node in calls(folder, "not_checked")
        if isinstance(node.args[0], ast.Constant)
    ]
    assert len(names) >= 8
    assert {row[0] for row in table('## "Not checked"')} == set(names)


def test_the_gates_and_who_may_override_them_are_those_of_the_code() -> None:
    overridable = {}
    for _, node in calls("workflows", "gate"):
        for keyword in node.keywords:
            if keyword.arg == "overridable" and isinstance(keyword.value, ast.Constant):
                assert isinstance(node.args[0], ast.Attribute)
                overridable[node.args[0].attr] = keyword.value.value
    assert set(overridable) == set(GATES)
    said = {row[0].strip("`"): row[2] for row in table("## INCONCLUSIVE gates and overrides")}
    assert {gate: text.startswith("yes") for gate, text in said.items()} == overridable


def test_every_message_that_is_shown_is_understood() -> None:
    blocks = [json.loads(text) for text in re.findall(r"```json\n(.+?)\n```", OPERATING, flags=re.DOTALL)]
    inputs = re.findall(r"--name (\w+) (?:\\\n\s*)?--input '([^']+)'", OPERATING)
    assert len(blocks) == 2
    assert len(inputs) == 3
    for message in blocks + [json.loads(text) for _, text in inputs]:
        parse_message(Approval if "gate" in message else RollbackRequest, message)
    for name, text in inputs:
        assert name == ("approve" if "gate" in text else "rollback")


def test_the_search_attributes_are_all_named() -> None:
    assert [key.name for key in SEARCH_ATTRIBUTES if f"`{key.name}`" not in OPERATING] == []


def test_every_option_of_the_codec_server_is_described() -> None:
    from codec.server import _options

    options = {f"--{name.replace('_', '-')}" for name in vars(_options([]))}
    assert {row[0].strip("`") for row in table("## The codec server")} == options


def test_the_script_that_keeps_the_evidence_can_run() -> None:
    script = OPERATING.partition("```python\n")[2].partition("```")[0]
    tree = ast.parse(script)
    imports = ast.unparse(ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], []))
    exec(imports, {})  # every name that it imports is there


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"starter\.py --settings settings\.toml (\w+)", OPERATING))))
def test_every_verb_that_is_shown_exists(verb: str) -> None:
    from starter import app

    assert verb in {(command.name or getattr(command.callback, "__name__", "")) for command in app.registered_commands}


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target
