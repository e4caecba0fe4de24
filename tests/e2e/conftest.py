"""One Temporal server for each test process, and one lab that is used again as long as rotations leave it as it was."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lab.temporal_server import TemporalServer
from tests.e2e.stage import LabProcess, Stage, running_lab, staged


class LabHouse:
    """Keeps one lab; a rotation that completed has used it up, and the next test gets another."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self._open: contextlib.ExitStack | None = None
        self._lab: LabProcess | None = None

    def lab(self) -> LabProcess:
        """A lab whose trunks serve A alone and that has no fault."""
        if self._lab is None or not self._lab.as_found():
            self.close()
            self._count += 1
            self._open = contextlib.ExitStack()
            self._lab = self._open.enter_context(running_lab(self._directory / f"a lab {self._count}"))
        return self._lab

    def close(self) -> None:
        """Stops the lab."""
        if self._open is not None:
            self._open.close()
        self._open, self._lab = None, None


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Temporal server."""
    with TemporalServer(tmp_path_factory.mktemp("temporal")) as server:
        yield server.address


@pytest.fixture(scope="session")
def lab_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHouse]:
    """The labs of this test process, one at a time."""
    house = LabHouse(tmp_path_factory.mktemp("labs"))
    yield house
    house.close()


@pytest.fixture
def lab(lab_house: LabHouse) -> Iterator[LabProcess]:
    """A lab as it is at the start; what a test armed is disarmed after it."""
    process = lab_house.lab()
    yield process
    process.calm()


@pytest.fixture
async def stage(temporal: str, lab: LabProcess) -> AsyncIterator[Stage]:
    """A worker and the lab's plan."""
    async with staged(temporal, lab) as ready:
        yield ready
