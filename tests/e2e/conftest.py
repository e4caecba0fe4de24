"""One Temporal server for each test process; a lab for each module or test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lab.temporal_server import TemporalServer
from tests.e2e.stage import LabProcess, Stage, running_lab, staged


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Temporal server."""
    with TemporalServer(tmp_path_factory.mktemp("temporal")) as server:
        yield server.address


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """A lab of the test's own."""
    with running_lab(tmp_path / "a lab") as process:
        yield process


@pytest.fixture
async def stage(temporal: str, lab: LabProcess) -> AsyncIterator[Stage]:
    """A worker and the lab's plan."""
    async with staged(temporal, lab) as ready:
        yield ready
