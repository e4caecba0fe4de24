"""These tests take minutes: they run when this folder is named on the command line, or with `-m durability`."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.durability.house import House, running_house
from tests.durability.results import RESULTS_FILE, Results, Row

HERE = Path(__file__).parent
MATRIX = pytest.StashKey[str]()
"""The size of the matrix and what of it was run, for the terminal."""
FAILED = pytest.StashKey[bool]()
"""On a test that failed in any of its parts."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves this folder out of `pytest` without arguments."""
    named = any(Path(config.invocation_params.dir, arg.partition("::")[0]).is_relative_to(HERE) for arg in config.args)
    return None if named or "durability" in (config.option.markexpr or "") else True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says how large the matrix is and how much of it was run."""
    if MATRIX in config.stash:
        terminalreporter.section("durability")
        terminalreporter.write_line(config.stash[MATRIX])


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
