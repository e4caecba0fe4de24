"""One OpenBao for the lab's tests of each test process, and both platforms on real ports for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from lab.bao import Bao
from tests.lab.lab_pki import LabPki
from tests.lab.platform_kit import Cxone, Genesys, PlatformUnderTest, running


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabPki]:
    """The lab's PKI on a real server."""
    with Bao(tmp_path_factory.mktemp("a bao")) as bao:
        yield LabPki.on(bao)


@pytest.fixture
async def genesys(pki: LabPki) -> AsyncIterator[Genesys]:
    """The Genesys stand-in with one trunk that presents A."""
    async with running(Genesys, pki) as platform:
        yield platform


@pytest.fixture
async def cxone(pki: LabPki) -> AsyncIterator[Cxone]:
    """The CXone stand-in with one trunk that presents A."""
    async with running(Cxone, pki) as platform:
        yield platform


@pytest.fixture(params=["genesys", "cxone"])
async def platform(request: pytest.FixtureRequest, pki: LabPki) -> AsyncIterator[PlatformUnderTest]:
    """Each of both platforms."""
    kind: type[PlatformUnderTest] = Genesys if request.param == "genesys" else Cxone
    async with running(kind, pki) as platform:
        yield platform
