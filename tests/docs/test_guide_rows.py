"""docs/guide.md: every row names a test that exists, or says that it is not done."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
CONTRACT = (ROOT / "docs" / "platform-contract.md").read_text(encoding="utf-8")
WAITS = "not in this version"
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)(?:::(\w+))?(?:\[([^\]`]+)\])?`")


class Row(NamedTuple):
    """One statement of the guide."""

    number: str
    says: str
    does: str
    why: str
    shown: str


class Known(NamedTuple):
    """What a test file holds."""

    tests: frozenset[str]
    ids: frozenset[str]


def rows(text: str = GUIDE) -> list[Row]:
    """The rows of the five-column tables."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 5 and not set(cells[0]) <= set("-#"):
            found.append(Row(*cells))
    return found


def references(text: str) -> Iterator[tuple[str, str, str | None]]:
    """File, test (`Class::test` for a method) and parameter id of every test that is named."""
    for path, first, second, parameter in REFERENCE.findall(text):
        yield path, f"{first}::{second}" if second else first, parameter or None


@cache
def known(path: str) -> Known:
    """The tests of a file, and every string in it that could be the id of a parameter."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    tests, strings = set[str](), set[str]()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            tests.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = [n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
            tests.update(f"{node.name}::{name}" for name in methods)
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            strings.add(inner.value)
    return Known(frozenset(tests), frozenset(strings))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.number)
def test_a_row_names_a_test_that_exists_or_says_that_it_waits(row: Row) -> None:
    named = list(references(row.shown))
    if row.shown == WAITS:
        return
    assert named, f"{row.number}: neither a test nor {WAITS!r}: {row.shown}"
    assert REFERENCE.sub("", row.shown).strip(", ") == "", f"{row.number}: not a list of tests: {row.shown}"
    for path, test, parameter in named:
        assert (ROOT / path).is_file(), f"{row.number}: there is no {path}"
        assert test.rpartition("::")[2].startswith("test_"), f"{row.number}: {test} is no test"
        assert test in known(path).tests, f"{row.number}: {path} has no {test}"
        assert parameter is None or parameter in known(path).ids, f"{row.number}: {test} has no case {parameter!r}"


def test_the_whole_guide_is_gone_through() -> None:
    numbers = [row.number for row in rows()]
    assert len(numbers) >= 60
    assert len(set(numbers)) == len(numbers)
    for section in ("P", "1.", "2.", "3.", "4.", "E1.", "E2.", "E3."):
        counted = [number for number in numbers if number.startswith(section)]
        assert counted == [f"{section}{place}" for place in range(1, len(counted) + 1)], section
        assert counted, section


def test_every_row_says_what_the_guide_says_what_is_done_and_why() -> None:
    for row in rows():
        assert all(row), row


def test_what_waits_names_nothing_that_looks_done() -> None:
    waiting = {row.number for row in rows() if row.shown == WAITS}
    assert waiting
    assert len(waiting) < len(rows()) / 3


def test_every_request_that_was_defined_here_is_explained() -> None:
    defined = re.findall(r"^\| D \| `(?:GET|POST|PUT|DELETE) ([^`\[?]+)", CONTRACT, flags=re.MULTILINE)
    defined += re.findall(r"^D: `(?:GET|POST) ([^`?]+)`?", CONTRACT, flags=re.MULTILINE)
    assert len(defined) >= 18
    explained = GUIDE.partition("## Requests that were defined here")[2]
    for path in defined:
        assert path in explained, f"docs/guide.md does not say why {path} was defined"


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        ("`tests/docs/test_guide_rows.py::test_nobody_wrote_this`", "has no"),
        ("`tests/docs/test_that_is_not_there.py::test_x`", "there is no"),
        ("`tests/docs/test_guide_rows.py::rows`", "is no test"),
        ("by hand", "neither a test"),
        ("`tests/docs/test_guide_rows.py::test_the_whole_guide_is_gone_through` mostly", "not a list"),
        ("`tests/docs/test_guide_rows.py::test_the_whole_guide_is_gone_through[never]`", "has no case"),
    ],
)
def test_a_row_without_a_true_reference_is_found(shown: str, wrong: str) -> None:
    with pytest.raises(AssertionError, match=wrong):
        test_a_row_names_a_test_that_exists_or_says_that_it_waits(Row("9.9", "x", "y", "z", shown))
