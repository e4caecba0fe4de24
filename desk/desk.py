"""The desk itself: who sits there, which rotations are in reach, and the terminal in front."""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from temporalio.client import Client

from connection import connect
from desk.commands import status_command
from desk.exit_codes import ExitCode
from desk.report import Row
from desk.rotations import Rotations
from domain.errors import SettingsInvalid
from settings import Settings, load_settings

WIDE = 120
"""Columns where there is no terminal that says how many it has."""


class Terminal:
    """Standard output and error. Colours, width and their absence are rich's business (`NO_COLOR`, `COLUMNS`)."""

    @property
    def out(self) -> Console:
        """For answers."""
        return _console(stderr=False)

    @property
    def errors(self) -> Console:
        """For failures and notes, so that `--json` stays JSON."""
        return _console(stderr=True)

    @property
    def plain(self) -> bool:
        """True where only ASCII can be printed."""
        return "utf" not in (getattr(sys.stdout, "encoding", None) or "").lower()

    def say(self, text: str) -> None:
        """One line of the answer."""
        self.out.print(escape(text), soft_wrap=True, highlight=False)

    def note(self, text: str) -> None:
        """One line beside the answer."""
        self.errors.print(escape(text), style="dim", soft_wrap=True, highlight=False)

    def raw(self, text: str) -> None:
        """Text as it is, for programs."""
        print(text)


terminal = Terminal()


@dataclass(frozen=True)
class Desk:
    """A connection, and the person who uses it."""

    settings: Settings
    client: Client
    rotations: Rotations
    who: str

    def link(self, row: Row) -> str | None:
        """The rotation's page in the Web UI, if the settings say where that is."""
        return self.settings.page_of(self.client.namespace, row.id, row.run_id)

    def follow(self, plan: str) -> ExitCode:
        """Says how to watch a rotation that was started."""
        terminal.say(f"watch it with: {status_command(plan)}")
        return ExitCode.FINE


async def open_desk(settings_file: Path | None) -> Desk:
    """Raises `SettingsInvalid` for wrong settings or no encryption key, `Unreachable` when Temporal does not answer."""
    settings = load_settings(settings_file)
    client = await connect(settings)
    return Desk(settings=settings, client=client, rotations=Rotations(client), who=operator(settings))


def operator(settings: Settings) -> str:
    """Who decides: the settings' identity, else the operating-system user. Raises `SettingsInvalid` without either."""
    if settings.identity:
        return settings.identity
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise SettingsInvalid(
            "nobody is named", where="identity", seen=f"user id {os.getuid()} has no name", action="set identity"
        ) from None


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return Console(stderr=stderr, width=WIDE)
    return console
