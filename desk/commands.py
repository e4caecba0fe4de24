"""The commands that the desk tells people to type."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def program() -> str:
    """How this program was called: `sip-rotate`, or `python starter.py`."""
    return "sip-rotate" if Path(sys.argv[0]).stem == "sip-rotate" else "python starter.py"


def approve_command(plan: str, gate: str) -> str:
    """Answers a waiting gate."""
    return f'{program()} approve {shlex.quote(plan)} {shlex.quote(gate)} --reason "why"'


def rollback_command(plan: str) -> str:
    """Turns a rotation back."""
    return f'{program()} rollback {shlex.quote(plan)} --reason "why"'


def resume_command(plan: str) -> str:
    """Lets a paused rotation go on."""
    return f'{program()} resume {shlex.quote(plan)} --reason "why"'


def status_command(plan: str) -> str:
    """Watches a rotation until its end."""
    return f"{program()} status {shlex.quote(plan)} --watch"
