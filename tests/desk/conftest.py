"""The command line under test, and a Temporal server for it."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from lab.temporal_server import TemporalServer
from settings import SETTINGS_VARIABLE
from tests.domain.plans import plan_text

Run = Callable[..., Result]


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    """Settings with an encryption key and a name; all that the desk needs."""
    key = tmp_path / "codec.key"
    key.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    file = tmp_path / "settings.toml"
    file.write_text(
        'identity = "ada"\nweb_ui = "http://ui.example"\n'
        f'[codec]\ncurrent = "k1"\nkeys = {{ k1 = {{ file = "{key}" }} }}\n'
    )
    return file


@pytest.fixture
def run(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line with those settings and a wide, colourless terminal."""
    import starter

    monkeypatch.setenv(SETTINGS_VARIABLE, str(settings_file))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(starter.app, list(arguments))

    return invoke


@pytest.fixture
def write_plan(tmp_path: Path) -> Callable[..., str]:
    """Writes the small valid plan with changes; returns its path."""

    def write(*changes: tuple[str, str]) -> str:
        file = tmp_path / "plan.toml"
        file.write_text(plan_text(*changes))
        return str(file)

    return write


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    """A real Temporal server."""
    with TemporalServer(tmp_path_factory.mktemp("temporal")) as running:
        yield running


@pytest.fixture
def temporal(server: TemporalServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its address, which the command line finds in the environment."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
    return server.address
