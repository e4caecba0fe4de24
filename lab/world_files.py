"""The directory of a running lab: secrets, trust, plan and settings, and last of all `lab.json`."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LAB_FILE = "lab.json"


class DirectoryInUse(RuntimeError):
    """Another lab is running in this directory."""


@dataclass(frozen=True)
class WorldSecrets:
    """What the stand-ins and the worker share; new for every run."""

    genesys: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    cxone: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    carrier_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    operations_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    observer: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    datadog_api_key: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    datadog_application_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    tsig: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    codec: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def files(self) -> dict[str, str]:
        """File name to content; keys are in base64."""
        return {
            "genesys.secret": self.genesys,
            "cxone.secret": self.cxone,
            "observer.secret": self.observer,
            "carrier.token": self.carrier_token,
            "ops.token": self.operations_token,
            "datadog-api.key": self.datadog_api_key,
            "datadog-application.key": self.datadog_application_key,
            "tsig.key": base64.b64encode(self.tsig).decode(),
            "codec.key": base64.b64encode(self.codec).decode(),
        }


def prepare_directory(directory: Path) -> None:
    """Make it, for our eyes only (0700). Raises `DirectoryInUse` while the lab of its `lab.json` is running."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    lab_file = directory / LAB_FILE
    try:
        pid = json.loads(lab_file.read_text(encoding="utf-8"))["pid"]
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError, TypeError):
        lab_file.unlink(missing_ok=True)
        return
    if pid != os.getpid():
        raise DirectoryInUse(f"{directory} belongs to the running lab with process id {pid}")


def write_private(path: Path, text: str) -> None:
    """Write a file that only we can read (0600), replacing what was there in one step."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write each of `files`, all of them private."""
    for name, text in files.items():
        write_private(directory / name, text if text.endswith("\n") else text + "\n")


def write_lab_file(directory: Path, facts: Mapping[str, object]) -> None:
    """Announce that the lab is ready: whoever sees `lab.json` sees it whole, and everything in it answers."""
    write_private(directory / LAB_FILE, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def remove_lab_file(directory: Path) -> None:
    """Announce that the lab has gone."""
    (directory / LAB_FILE).unlink(missing_ok=True)
