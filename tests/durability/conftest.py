"""What the durability tests live in, and what is said of them. They take minutes and run with `-m durability` alone."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.durability.house import House, running_house
from tests.durability.results import RESULTS_FILE, Results, Row

MATRIX = "matrix"
"""The property of a report that says how large the matrix is and what of it was run."""
FAILED = pytest.StashKey[bool]()
"""On a test that failed in any of its parts."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how large the matrix is and how much of it was run."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    said = {text for report in reports for name, text in report.user_properties if name == MATRIX}
    if said:
        terminalreporter.section("durability")
        for text in sorted(map(str, said)):
            terminalreporter.write_line(text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes what became of each test; the matrix notes its cases itself."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    if (
        call.when == "call"
        and item.get_closest_marker("durability")
        and "subtests" not in getattr(item, "fixturenames", ())
    ):
        name, _, case = item.name.partition("[")
        sentence = name.removeprefix("test_").replace("_", " ")
        found = "held" if report.passed else f"FAILED: {str(call.excinfo.value)[:300] if call.excinfo else ''}"
        row = Row(item.nodeid, item.path.stem, sentence, case.removesuffix("]"), found, round(report.duration, 1))
        _results(item.config).add(row)
    return report


@pytest.fixture(scope="session")
def one_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for all tests of this process."""
    with running_house(tmp_path_factory.mktemp("house")) as running:
        yield running


@pytest.fixture
def house(one_house: House, request: pytest.FixtureRequest) -> Iterator[House]:
    """The house; a test that fails leaves it to nobody, so that a failure is one failure."""
    yield one_house
    if request.node.stash.get(FAILED, False):
        one_house.renew()


@pytest.fixture
def results(pytestconfig: pytest.Config) -> Results:
    """Where the rows of docs/durability.md come from."""
    return _results(pytestconfig)


def _results(config: pytest.Config) -> Results:
    return Results(config.rootpath / RESULTS_FILE)
