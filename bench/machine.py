"""What a table was measured on: the machine and the versions of everything that took part."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_VERSION = re.compile(r"(\d+\.\d+(?:[\w.+-]*\w)?)")
_COMMANDS = {
    "haproxy": ("haproxy", "-v"),
    "kamailio": ("kamailio", "-v"),
    "sipp": ("sipp", "-v"),
    "openssl": ("openssl", "version"),
    "prometheus": ("prometheus", "--version"),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """`commit` ends in "-modified" when tracked files were changed since; `date` is UTC."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    versions: dict[str, str]
    date: str
    commit: str

    def lines(self, load_averages: str, command: str) -> list[str]:
        """Markdown: on what, when and how something was measured."""
        return [
            "## Measured on",
            "",
            f"- {self.cpu}, {self.cores} cores, {self.memory_gib} GiB; {self.kernel}",
            f"- {', '.join(f'{name} {version}' for name, version in self.versions.items())}",
            f"- {self.date}, commit {self.commit}; load average {load_averages}",
            f"- `{command}`",
        ]


def this_machine() -> Machine:
    """As it is now. Raises FileNotFoundError naming a program that is missing."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine(
        cpu=cpu_model(Path("/proc/cpuinfo").read_text()),
        cores=os.cpu_count() or 1,
        memory_gib=round(memory, 1),
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions={
            **{name: version_in(_said(*command)) for name, command in _COMMANDS.items()},
            "python": platform.python_version(),
        },
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
    )


def cpu_model(cpuinfo: str) -> str:
    """The model's name in /proc/cpuinfo, or "unknown": not every architecture tells."""
    found = re.search(r"(?m)^model name\s*:\s*(.+)$", cpuinfo)
    return found.group(1).strip() if found else "unknown"


def version_in(text: str) -> str:
    """The first thing that looks like a version in what a program says of itself. Raises ValueError."""
    found = _VERSION.search(text)
    if found is None:
        raise ValueError(f"no version in {text[:200]!r}")
    return found.group(1)


def _commit() -> str:
    commit = _said("git", "rev-parse", "--short=12", "HEAD").strip()
    return f"{commit}-modified" if _said("git", "status", "--porcelain", "-uno").strip() else commit


def _said(*command: str) -> str:
    """Standard output and error together: programs differ in where they put their version."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=20
    )
    return done.stdout + done.stderr
