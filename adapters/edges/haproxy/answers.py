"""What HAProxy's command line answers, as records. Formats of 2.6 (Management Guide, section 9.3); they are stable."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from domain.errors import UnexpectedAnswer

EMPTY_SLOT = "empty slot"
"""Common name of the placeholder in a slot without a certificate."""

_MAINTENANCE = 0x01 | 0x02 | 0x20
"""Bits of `srv_admin_state`: put there, inherited, no address. 0x04 only says that the configuration said so once."""

_DRAINED = 0x08 | 0x10


@dataclass(frozen=True)
class Process:
    """`show info`: when the worker started, to the second, and what its clock shows, give or take one."""

    version: tuple[int, int]
    started_at: datetime
    clock: datetime


@dataclass(frozen=True)
class Statistic:
    """One line of `show stat`: of a frontend (`server` = FRONTEND), a server, or a backend (BACKEND)."""

    proxy: str
    server: str
    sessions: int
    status: str
    resumed: int


@dataclass(frozen=True)
class ServerState:
    """A server of a pool as it is now: None is in maintenance, else its weight; one that is drained weighs nothing."""

    pool: str
    name: str
    weight: int | None


@dataclass(frozen=True)
class Loaded:
    """A certificate in HAProxy's memory; `sha1` as 40 lower-case hex digits, `serial` as HAProxy writes it."""

    sha1: str
    serial: str
    subject: str
    issuer: str

    @property
    def is_placeholder(self) -> bool:
        return self.subject == self.issuer == f"/CN={EMPTY_SLOT}"


@dataclass(frozen=True)
class LoadedFiles:
    """`show ssl cert`: the files behind the certificates in memory, and what a transaction has not committed yet."""

    files: tuple[str, ...]
    uncommitted: tuple[str, ...]


def old_workers(answer: str, where: str) -> tuple[int, ...]:
    """`show proc`: the process ids of workers from before a reload that still have connections."""
    if "# workers" not in answer:
        raise _strange("show proc", answer, where, "give the address of -S, the master's command line, as runtime")
    current, _, old = answer.partition("# old workers")
    if not re.search(r"(?m)^\d+\s+worker\s", current):
        raise _strange("show proc", answer, where, "look at HAProxy's log: no worker runs")
    return tuple(int(pid) for pid in re.findall(r"(?m)^(\d+)\s+worker\s", old))


def process(answer: str, where: str) -> Process:
    """`show info`."""
    fields = dict(line.split(": ", 1) for line in answer.splitlines() if ": " in line)
    try:
        version = re.match(r"(\d+)\.(\d+)", fields["Version"])
        started, uptime = int(fields["Start_time_sec"]), int(fields["Uptime_sec"])
    except (KeyError, ValueError):
        version = None
    if version is None:
        raise _strange("show info", answer, where)
    return Process(
        version=(int(version[1]), int(version[2])),
        started_at=datetime.fromtimestamp(started, UTC),
        clock=datetime.fromtimestamp(started + uptime + 1, UTC),  # both are cut off: the middle of what it may be
    )


def statistics(answer: str, where: str) -> tuple[Statistic, ...]:
    """`show stat`."""
    rows = list(csv.DictReader(answer.removeprefix("# ").splitlines()))
    try:
        return tuple(
            Statistic(
                proxy=row["pxname"],
                server=row["svname"],
                sessions=int(row["scur"] or 0),
                status=row["status"],
                resumed=int(row.get("ssl_reused_sess") or 0),
            )
            for row in rows
        )
    except (KeyError, ValueError, TypeError):
        raise _strange("show stat", answer, where) from None


def server_states(answer: str, where: str) -> tuple[ServerState, ...]:
    """`show servers state`, version 1."""
    lines = answer.splitlines()
    if not lines or lines[0].strip() != "1":
        raise _strange("show servers state", answer, where)
    return tuple(_states(lines[1:], where))


def loaded_files(answer: str, where: str) -> LoadedFiles:
    """`show ssl cert` without a name."""
    transaction, heading, files = answer.partition("# filename")
    if not heading:
        raise _strange("show ssl cert", answer, where)
    return LoadedFiles(
        files=tuple(line for line in files.splitlines() if line.strip()),
        uncommitted=tuple(line[1:] for line in transaction.splitlines() if line.startswith("*")),
    )


def loaded(answer: str) -> Loaded | None:
    """`show ssl cert <file>`; None when there is no such certificate, or when it is a bundle of several."""
    fields = dict(line.split(": ", 1) for line in answer.splitlines() if ": " in line)
    sha1 = fields.get("SHA1 FingerPrint", "").replace(":", "").strip().lower()
    if not re.fullmatch("[0-9a-f]{40}", sha1):
        return None
    return Loaded(
        sha1=sha1,
        serial=fields.get("Serial", ""),
        subject=fields.get("Subject", ""),
        issuer=fields.get("Issuer", ""),
    )


def sessions(answer: str, proxies: Sequence[tuple[str, str]]) -> dict[str, int]:
    """`show sess`: id → how often it was worked on, of the sessions between these pairs of frontend and backend."""
    found: dict[str, int] = {}
    for line in answer.splitlines():
        match = re.match(r"(0x[0-9a-f]+): .* fe=(\S+) be=(\S+) .*?\bcalls=(\d+) ", line)
        if match is not None and (match[2], match[3]) in proxies:
            found[match[1]] = int(match[4])
    return found


def _states(lines: Sequence[str], where: str) -> Iterator[ServerState]:
    for line in lines:
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        try:
            admin, weight = int(fields[6]), int(fields[7])
        except (IndexError, ValueError):
            raise _strange("show servers state", line, where) from None
        drained = 0 if admin & _DRAINED else weight
        yield ServerState(pool=fields[1], name=fields[3], weight=None if admin & _MAINTENANCE else drained)


def _strange(command: str, answer: str, where: str, action: str = "") -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"HAProxy's answer to {command!r} does not have its form",
        where=where,
        seen=answer[:200] or "nothing",
        action=action or "compare HAProxy's version with deploy/haproxy/README.md",
    )
