"""A real Temporal server and labs for tests whose workers are processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from temporalio.client import Client

from adapters.registry import Adapters
from codec.encryption import EncryptionCodec, data_converter, load_keyring
from lab.temporal_server import TemporalServer
from settings import load_settings
from tests.e2e.conftest import LabHouse
from tests.e2e.stage import LabProcess, Stage
from tests.replay.worker_processes import Workers


@pytest.fixture(scope="session")
def lab_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHouse]:
    """The labs of this test process, one at a time."""
    house = LabHouse(tmp_path_factory.mktemp("labs"))
    yield house
    house.close()


@pytest.fixture
def lab(lab_house: LabHouse) -> LabProcess:
    """A lab as it is at the start."""
    return lab_house.lab()


@pytest.fixture
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Temporal server: one for each test, because a deployment's version is the server's."""
    with TemporalServer(tmp_path_factory.mktemp("temporal")) as server:
        yield server.address


@pytest.fixture
async def workers(temporal: str, lab: LabProcess, tmp_path: Path) -> AsyncIterator[Workers]:
    """Worker processes for this lab."""
    started = Workers(temporal, lab.directory / "settings.toml", tmp_path)
    yield started
    await asyncio.to_thread(started.stop)


@pytest.fixture
async def stage(temporal: str, lab: LabProcess, workers: Workers) -> AsyncIterator[Stage]:
    """A client and the lab's plan, without a worker in this process."""
    settings = load_settings(lab.directory / "settings.toml")
    converter = data_converter(EncryptionCodec(load_keyring(settings.codec)))
    client = await Client.connect(temporal, data_converter=converter)
    async with contextlib.AsyncExitStack() as stack:
        adapters = Adapters(settings)
        stack.push_async_callback(adapters.close)
        ready = Stage(client, lab, settings, adapters, (lab.directory / "plan.toml").read_text())
        stack.push_async_callback(ready.end)
        yield ready
