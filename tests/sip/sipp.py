"""SIPp as callers and answerers, judged by its own totals.

SIPp can count a call neither as successful nor as failed. So a test asserts that successful = created and that the exit
code is 0, never that failed = 0.
"""

from __future__ import annotations

import asyncio
import csv
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.ports import LOOPBACK, free_port
from tests.sip.programs import Program

SCENARIOS = Path(__file__).with_name("scenarios")
_LAST_CALLS_S = 30.0
FIRST = ("nice", "-n", "-10") if os.geteuid() == 0 else ()
"""SIPp measures, and loses its place in a scenario when it does not get its turn: it comes before what it measures."""


@dataclass(frozen=True, slots=True)
class CallKind:
    """How one call goes on after it was answered; `bye_after_s` > 0: the callee hangs up so long after the last ACK."""

    reopen: bool = False
    reinvite: bool = False
    bye_after_s: float = 0.0

    def line(self) -> str:
        """As the scenario reads it."""
        return f"{self.reopen:d};{self.reinvite:d};{self.bye_after_s}"


PLAIN = CallKind()
REINVITE = CallKind(reinvite=True)
CALLEE_HANGS_UP = CallKind(bye_after_s=0.5)
REOPENED = CallKind(reopen=True)
REOPENED_REINVITE = CallKind(reopen=True, reinvite=True)
REOPENED_CALLEE_HANGS_UP = CallKind(reopen=True, reinvite=True, bye_after_s=0.5)
CALLER_KINDS = (PLAIN, REINVITE, REOPENED, REOPENED_REINVITE)
ALL_KINDS = (PLAIN, REINVITE, CALLEE_HANGS_UP, REOPENED, REOPENED_REINVITE, REOPENED_CALLEE_HANGS_UP)
ON_ONE_CONNECTION = (PLAIN, REINVITE)


@dataclass(frozen=True, slots=True)
class Totals:
    """SIPp's own figures. `answer_ms` is the mean time from INVITE to 200; `exit_code` is None while it runs."""

    created: int
    successful: int
    failed: int
    current: int
    retransmissions: int
    answer_ms: float
    causes: tuple[str, ...]
    exit_code: int | None = None

    @property
    def all_successful(self) -> bool:
        """Every call that was created succeeded, and SIPp says so too."""
        return self.created > 0 and self.successful == self.created and self.exit_code == 0

    @property
    def lost(self) -> int:
        """Calls that have ended, or should have, without success."""
        return self.created - self.successful - (self.current if self.exit_code is None else 0)


class Sipp:
    """One SIPp process with its statistics. Subclasses say what it does."""

    def __init__(self, name: str, directory: Path, arguments: Sequence[str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._statistics = directory / f"{name}.csv"
        self._errors = directory / f"{name}.errors"
        command = [*FIRST, "sipp", "-nostdin", "-max_socket", "4000", "-l", "5000", *arguments]
        # What is not expected (a 180 after its 200) ends no call; only what is expected makes it a good one.
        command += ["-default_behaviors", "all,-abortunexp"]
        command += ["-trace_stat", "-stf", str(self._statistics), "-fd", "1"]
        command += ["-trace_err", "-error_file", str(self._errors)]
        self._program = Program(name, command, directory)

    def totals(self, exit_code: int | None = None) -> Totals:
        """What it has written last, at most a second ago while it runs."""
        try:
            with self._statistics.open(newline="") as file:
                rows = [row for row in csv.DictReader(file, delimiter=";") if row.get("CallLengthStDev(C)")]
        except FileNotFoundError:
            rows = []
        last = rows[-1] if rows else {}
        causes = (
            f"{name.removesuffix('(C)')} {value}"
            for name, value in last.items()
            if name and name.startswith("Failed") and name.endswith("(C)") and name != "FailedCall(C)" and value != "0"
        )
        return Totals(
            created=int(last.get("TotalCallCreated", 0)),
            successful=int(last.get("SuccessfulCall(C)", 0)),
            failed=int(last.get("FailedCall(C)", 0)),
            current=int(last.get("CurrentCall", 0)),
            retransmissions=int(last.get("Retransmissions(C)", 0)),
            answer_ms=_milliseconds(last.get("ResponseTime1(C)", "")),
            causes=tuple(causes),
            exit_code=exit_code,
        )

    def last_errors(self) -> str:
        """The end of what it found unexpected."""
        return self._errors.read_text(errors="replace")[-2000:] if self._errors.exists() else ""

    async def finish(self) -> Totals:
        """No new calls; those that are active end as they should, or are lost after half a minute."""
        self._program.signal(signal.SIGUSR1)
        return await self.ends(_LAST_CALLS_S)

    async def ends(self, patience_s: float) -> Totals:
        """The totals once it has ended of itself; after the patience it is ended, and not by its own will."""
        try:
            return self.totals(await self._program.wait(patience_s))
        except TimeoutError:
            await self._program.kill()
            return self.totals(-signal.SIGKILL)

    async def stop(self) -> None:
        """Ends it, however its calls are."""
        await self._program.kill()


class Callers(Sipp):
    """Callers at a fixed rate: TCP, one connection per call or one for all.

    Calls of `kinds` take turns. Where `contact_port` is given, the callee's requests reach SIPp there by TCP, and
    `contact` is the URI that leads to it. Calls over UDP (`transport="u1"`) are those of a SIP server in the core.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        target: tuple[str, int],
        fqdn: str,
        rate: float,
        kinds: Sequence[CallKind] = CALLER_KINDS,
        persistent: bool = False,
        transport: str | None = None,
        contact: str | None = None,
        contact_port: int | None = None,
        pause_ms: int = 400,
        calls: int | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        injected = directory / f"{name}.inject"
        injected.write_text("SEQUENTIAL\n" + "".join(f"{kind.line()}\n" for kind in kinds))
        port = contact_port or free_port()
        mode = transport or ("t1" if persistent else "tn")
        contact = contact or f"sip:caller@{LOOPBACK}:{port};transport={'udp' if mode == 'u1' else 'tcp'}"
        arguments = ["-t", mode, "-i", LOOPBACK, "-p", str(port), "-sf", str(SCENARIOS / "calls.xml")]
        arguments += ["-inf", str(injected), "-set", "fqdn", fqdn, "-set", "contact", contact]
        arguments += ["-cid_str", f"%u-%p@{name}", "-d", str(pause_ms), "-s", "service"]
        # r calls every rp milliseconds: SIPp's rate is a whole number
        arguments += ["-r", "1", "-rp", str(max(1, round(1000 / rate)))]
        if persistent:
            arguments += ["-max_reconnect", "1000", "-reconnect_close", "false", "-reconnect_sleep", "50"]
        if calls is not None:
            arguments += ["-m", str(calls)]
        super().__init__(name, directory, [f"{target[0]}:{target[1]}", *arguments])

    async def start(self) -> None:
        """Begins to call."""
        await self._program.start()


class RenewedCallers:
    """Callers on one connection that ends when it has carried so many calls, and is followed by another one.

    SIPp itself cannot go on when its only connection is closed below it: the request with which it notices is lost.
    """

    def __init__(self, name: str, make: Callable[[str], Callers]) -> None:
        """`make` gives callers of a name that make a number of calls on one connection."""
        self.name, self.connections = name, 0
        self._make = make
        self._current: Callers | None = None
        self._ended: list[Totals] = []
        self._errors = ""
        self._last = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to call."""
        self._task = asyncio.create_task(self._run())

    async def finish(self) -> Totals:
        """Returns when the connection that is open has carried its calls."""
        assert self._task is not None
        self._last = True
        await self._task
        return Totals(
            created=sum(one.created for one in self._ended),
            successful=sum(one.successful for one in self._ended),
            failed=sum(one.failed for one in self._ended),
            current=0,
            retransmissions=sum(one.retransmissions for one in self._ended),
            answer_ms=max(one.answer_ms for one in self._ended),
            causes=tuple(cause for one in self._ended for cause in one.causes),
            exit_code=max(one.exit_code or 0 for one in self._ended),
        )

    def totals(self) -> tuple[Totals, ...]:
        """Those of each connection so far."""
        return (*self._ended, *([self._current.totals()] if self._current else []))

    async def stop(self) -> None:
        """Ends it, however its calls are."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._current is not None:
            await self._current.stop()

    def last_errors(self) -> str:
        """The end of what was unexpected on the last connection that met something."""
        return self._errors

    async def _run(self) -> None:
        while not self._last:
            self.connections += 1
            self._current = self._make(f"{self.name}-{self.connections}")
            await self._current.start()
            self._ended.append(await self._current.ends(_LAST_CALLS_S))
            self._errors = self._current.last_errors() or self._errors


class Answerers(Sipp):
    """The callees in the core, UDP on `port`."""

    def __init__(self, name: str, directory: Path) -> None:
        self.port = free_port()
        arguments = ["-t", "u1", "-i", LOOPBACK, "-p", str(self.port), "-sf", str(SCENARIOS / "answer.xml")]
        super().__init__(name, directory, arguments)

    @property
    def uri(self) -> str:
        """Where the SIP server sends calls."""
        return f"sip:{LOOPBACK}:{self.port};transport=udp"

    async def start(self) -> None:
        """Returns when it listens."""
        await self._program.start(self._bound)

    async def _bound(self) -> bool:
        return _udp_bound(self.port)


def _udp_bound(port: int) -> bool:
    """Some process has the UDP port, as the kernel says."""
    return any(f":{port:04X} " in line for line in Path("/proc/net/udp").read_text().splitlines())


def _milliseconds(text: str) -> float:
    """`hh:mm:ss:microseconds`, as SIPp writes it."""
    parts = text.split(":")
    if len(parts) != 4:
        return 0.0
    hours, minutes, seconds, microseconds = (int(part) for part in parts)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + microseconds / 1000
